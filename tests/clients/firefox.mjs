// Firefox on the page: `node firefox.mjs FIREFOX URL PREFERENCES` prints the page's final signs as JSON.
//
// Firefox's fake camera takes no file, so the page gets a canvas that is grey, white, grey and black in
// turn. PREFERENCES (JSON) are added to those that let Firefox use the loopback interface.

import { launch } from "puppeteer-core";

const [executablePath, url, preferences] = process.argv.slice(2);

/** In the page: the canvas as a camera, and `deleted`, which is kept once the page has deleted its session. */
function prepare() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const context = canvas.getContext("2d");
  const levels = ["#808080", "#ffffff", "#808080", "#000000"];
  setInterval(() => {
    context.fillStyle = levels[Math.floor(performance.now() / 800) % levels.length];
    context.fillRect(0, 0, canvas.width, canvas.height);
  }, 33);
  navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(30);
  const { fetch } = window;
  window.deleted = new Promise((resolve) => {
    window.fetch = async (url, options) => {
      const response = await fetch(url, options);
      if (options?.method === "DELETE") resolve();
      return response;
    };
  });
}

const browser = await launch({
  browser: "firefox",
  executablePath,
  headless: true,
  extraPrefsFirefox: { "media.peerconnection.ice.loopback": true, ...JSON.parse(preferences) },
});
try {
  const page = await browser.newPage();
  const logged = [];
  page.on("console", (message) => logged.push(message.text()));
  page.on("pageerror", (error) => logged.push(String(error)));
  await page.evaluateOnNewDocument(prepare);
  await page.goto(`${url}/?autostart=1`);
  try {
    for (const gloss of ["bright", "dark"]) {
      await page.waitForSelector(`#transcript li[data-gloss="${gloss}"][data-final="true"]`, { timeout: 30_000 });
    }
  } catch (error) {
    const words = await page.evaluate(() => document.body.innerText);
    throw new Error(`${error.message}; the page says: ${words}\nconsole: ${logged.join("\n")}`);
  }
  const signs = await page.$$eval('#transcript li[data-final="true"]', (items) => items.map((item) => item.dataset.gloss));
  await page.click("#toggle"); // Stop
  await page.evaluate(() => window.deleted);
  console.log(JSON.stringify(signs));
} finally {
  await browser.close();
}
