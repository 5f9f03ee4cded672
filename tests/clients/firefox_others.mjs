// Firefox as others use the recogniser: `node firefox_others.mjs FIREFOX URL PREFERENCES SITE` reads captions
// at an address that the page at URL shares, then signs on another SITE that embeds it. Prints JSON:
// {captions, state, embedded}, the words of each and what the captions say after the end.

import { visiting } from "./firefox_browser.mjs";

const [firefox, url, preferences, site] = process.argv.slice(2);
const PATIENT = { timeout: 30_000 };

await visiting(firefox, JSON.parse(preferences), async (open) => {
  const page = await open(`${url}/?autostart=1`);
  await page.waitForSelector('#status[data-state="live"]', PATIENT);
  await page.click("#share button");
  await page.waitForFunction(() => document.getElementById("share-page").value, PATIENT);
  const reader = await open(await page.$eval("#share-page", (input) => input.value));
  const read = (gloss) => [...document.querySelectorAll('#words [data-final="true"]')].some((word) => word.textContent === gloss);
  await page.bringToFront(); // a canvas behind another page is not drawn, as a camera's picture would be
  for (const gloss of ["bright", "dark"]) await reader.waitForFunction(read, { ...PATIENT, polling: 200 }, gloss);
  await reader.bringToFront();
  const captions = await reader.$$eval("#words .word", (words) => words.map((word) => word.textContent));
  await page.evaluate(() => document.getElementById("toggle").click()); // Stop
  await page.evaluate(() => window.deleted);
  await reader.waitForFunction(() => document.getElementById("state").textContent, PATIENT);
  const state = await reader.$eval("#state", (status) => status.textContent);

  const embedding = await open(site);
  await embedding.click("#toggle");
  const shown = (gloss) => document.getElementById("signs").textContent.includes(gloss);
  for (const gloss of ["bright", "dark"]) await embedding.waitForFunction(shown, PATIENT, gloss);
  const embedded = await embedding.$eval("#signs", (signs) => signs.textContent.split(" ").filter(Boolean));
  await embedding.click("#toggle"); // Stop
  await embedding.evaluate(() => window.deleted);
  return { captions, state, embedded };
});
