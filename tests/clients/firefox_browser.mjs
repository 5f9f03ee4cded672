// A headless Firefox for the tests, with a camera that is grey, white, grey and black in turn.

import { launch } from "puppeteer-core";

/**
 * In the page: a canvas as the camera (Firefox's fake one takes no file), and `deleted`, which is kept once
 * the page has deleted its session.
 */
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

/**
 * Runs `visit(open)` and prints what it returns as JSON. `open(url)` gives a page of its own; where the visit
 * fails the error says what the pages show. `preferences` are added to those that let Firefox use the
 * loopback interface.
 */
export async function visiting(executablePath, preferences, visit) {
  const browser = await launch({
    browser: "firefox",
    executablePath,
    headless: true,
    extraPrefsFirefox: { "media.peerconnection.ice.loopback": true, ...preferences },
  });
  const pages = [];
  const logged = [];
  try {
    const open = async (url) => {
      const page = await browser.newPage();
      pages.push(page);
      page.on("console", (message) => logged.push(message.text()));
      page.on("pageerror", (error) => logged.push(String(error)));
      await page.evaluateOnNewDocument(prepare);
      await page.goto(url);
      return page;
    };
    console.log(JSON.stringify(await visit(open)));
  } catch (error) {
    const words = await Promise.all(pages.map((page) => page.evaluate(() => document.body.innerText)));
    throw new Error(`${error.message}; the pages say: ${words.join("\n---\n")}\nconsole: ${logged.join("\n")}`);
  } finally {
    await browser.close();
  }
}
