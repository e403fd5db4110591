import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { testLateArrivals } from "../railway/cases/late-arrivals.ts";
import { testRows } from "../railway/cases/rows.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";
import { useRailway } from "../support/railway/use-railway.ts";

// A part of tests/railway/deployer.test.ts, where everything runs with the real CLI: a call of the stub takes ten times as long.
const railway = useRailway(writeStubCli(scratchDirectory(), process.env));
testRows(railway);
testLateArrivals(railway);
