// Firefox on the page: `node firefox.mjs FIREFOX URL PREFERENCES` prints the page's final signs as JSON.

import { visiting } from "./firefox_browser.mjs";

const [firefox, url, preferences] = process.argv.slice(2);

await visiting(firefox, JSON.parse(preferences), async (open) => {
  const page = await open(`${url}/?autostart=1`);
  for (const gloss of ["bright", "dark"]) {
    await page.waitForSelector(`#transcript li[data-gloss="${gloss}"][data-final="true"]`, { timeout: 30_000 });
  }
  const signs = await page.$$eval('#transcript li[data-final="true"]', (items) => items.map((item) => item.dataset.gloss));
  await page.click("#toggle"); // Stop
  await page.evaluate(() => window.deleted);
  return signs;
});
