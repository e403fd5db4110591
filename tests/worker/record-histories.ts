// Records the histories that the built-in workflow writes today, on a real server: once, when it begins to write others
// (tests/worker/replay.test.ts says so). `node_modules/.bin/node tests/worker/record-histories.ts 02-retry-policy`
import { writeHistory } from "./support/histories.ts";
import { exampleScenarios, runScenario, troubleScenarios } from "./support/scenarios.ts";
import { startServiceFixture } from "./support/service-fixture.ts";

const [generation] = process.argv.slice(2);
if (generation === undefined || !/^\d\d-[a-z-]+$/.test(generation)) {
  console.error("Say a name for them, such as 02-retry-policy: number and what is new");
  process.exit(2);
}
const fixture = await startServiceFixture();
try {
  for (const scenario of [...exampleScenarios(), ...troubleScenarios()]) {
    const { status, history } = await runScenario(fixture, scenario);
    writeHistory(generation, scenario.name, history);
    console.log(`${scenario.name}: ${status}, ${history.events?.length} events`);
  }
} finally {
  await fixture.stop();
}
