import { inject } from "vitest";
import { useRailway } from "../support/railway/use-railway.ts";
import { testLateArrivals } from "./cases/late-arrivals.ts";
import { testLeases } from "./cases/leases.ts";
import { testEndings, testRows } from "./cases/rows.ts";
import { testSite } from "./cases/site.ts";

const railway = useRailway(inject("railwayCli"), inject("railwaySchema") ?? undefined);
testRows(railway);
testEndings(railway);
testLeases(railway);
testLateArrivals(railway);
testSite(railway);
