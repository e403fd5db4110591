/**
 * Characters that act where a text is shown, or hide: they move a terminal's cursor, end a line, turn the text around them
 * or take no room. Letters, accents, emoji and what joins them are no part of it. SQL has the same list (osp.visible).
 */
const CONTROLS = "\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029";
const TURNS_AND_HIDES = "\\u200b\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u2069\\ufeff\\ufff9-\\ufffb";

const control = new RegExp(`[${CONTROLS}]`, "u");
const turnOrHide = new RegExp(`[${TURNS_AND_HIDES}]`, "u");
const invisible = new RegExp(`[${CONTROLS}${TURNS_AND_HIDES}]`, "gu");

/** Blanks, and what takes no room though it is a letter or joins some: a text of nothing else is blank. SQL has the same list. */
const blank = new RegExp(
  "^[ \\u00a0\\u00ad\\u034f\\u061c\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200a\\u200c-\\u200f\\u202f" +
    "\\u205f\\u2065\\u206a-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\uffa0]*$",
  "u",
);

export function holdsControl(text: string): boolean {
  return control.test(text);
}

/** Whether it turns the text around it, or hides. */
export function holdsHidden(text: string): boolean {
  return turnOrHide.test(text);
}

export function isBlank(text: string): boolean {
  return blank.test(text);
}

/**
 * A text for one line, of a log, a row or a terminal: what would act there stands as its escape, `\u001b`. Postgres can hold it.
 *
 * @param kept characters that stay as they are
 */
export function visible(text: string, kept = ""): string {
  return text.toWellFormed().replaceAll(invisible, (one) => (kept.includes(one) ? one : escape(one)));
}

function escape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
