// What axe finds on a page that keeps people out.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { expect } from "./report.mjs";

const AXE = await readFile(fileURLToPath(new URL("../node_modules/axe-core/axe.min.js", import.meta.url)), "utf8");

const IMPACTS = ["minor", "moderate", "serious", "critical"];

/** Fails where it finds something of `impact` or more. */
export async function axe(visitor, impact = "serious") {
  const counting = IMPACTS.slice(IMPACTS.indexOf(impact));
  await visitor.page.evaluate(AXE);
  // A colour that is on its way from one to the other is none that anybody reads: none sets out any more, and what is under way
  // arrives.
  await visitor.page.emulateMedia({ reducedMotion: "reduce" });
  await visitor.page.evaluate(() => {
    const ending = document.getAnimations().filter(({ effect }) => effect.getComputedTiming().endTime !== Infinity);
    return Promise.allSettled(ending.map(({ finished }) => finished));
  });
  const found = await visitor.page.evaluate((counting) =>
    window.axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
      violations
        .filter(({ impact }) => counting.includes(impact))
        .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ target }) => target.join(" ")).slice(0, 4).join(", ")}`),
    ),
    counting,
  );
  await visitor.page.emulateMedia({ reducedMotion: null });
  expect(found.length === 0, found.join("\n"));
}
