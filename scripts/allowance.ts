/** A line that our own checks pass over: it ends in a comment `check-allow: <reason>`. Without a reason it does not count. */
export const allowance = /\bcheck-allow: \S/;
