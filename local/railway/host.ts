/** Where the CLI finds Railway's backend; compiled into it. */
export const HOST = "backboard.railway.com";
