/** The deployer cannot work as it is set up: starting it again does not help, somebody must change something first. */
export class StartError extends Error {
  override readonly name: string = "StartError";
}
