// Pictures of what was seen, for those who want to look at it.

import { mkdir } from "node:fs/promises";

/** Where they are kept: `--screenshots DIRECTORY`; null: nowhere. */
export async function picturesKept() {
  const [option, directory] = process.argv.slice(2);
  if (option !== "--screenshots") return null;
  await mkdir(directory, { recursive: true });
  return directory;
}
