// In a page of the server's origin: a camera in a call, with a number in each of its pictures. Returns
// null after the first prediction, or else the error; `window.log` collects what is sent and received.

async ({ fps, width, height, codes }) => {
  const log = (window.log = { session: "", made_ms: [], predictions: [] });
  const now = () => performance.timeOrigin + performance.now();
  const [columns, rows] = [10, 2]; // as streaming/bench/barcode.py
  const context = new OffscreenCanvas(width, height).getContext("2d", { alpha: false });
  const track = new MediaStreamTrackGenerator({ kind: "video" });
  const camera = track.writable.getWriter();

  const picture = () => {
    const number = log.made_ms.length;
    log.made_ms.push(now());
    context.fillStyle = "#707070";
    context.fillRect(0, 0, width, height);
    context.fillStyle = "#c85a28";
    context.fillRect((number * 7) % (width - 40), height / 2, 40, 40); // no picture is like the last
    const code = codes[number % codes.length];
    for (let place = 0; place < columns * rows; place++) {
      const [column, row] = [place % columns, Math.floor(place / columns)];
      context.fillStyle = (code >> place) & 1 ? "#ffffff" : "#000000";
      const left = Math.round((column * width) / columns);
      const right = Math.round(((column + 1) * width) / columns);
      const top = Math.round((row * height) / 4 / rows);
      const bottom = Math.round(((row + 1) * height) / 4 / rows);
      context.fillRect(left, top, right - left, bottom - top);
    }
    camera.write(new VideoFrame(context.canvas, { timestamp: 1000 * performance.now() }));
  };
  const clock = setInterval(picture, 1000 / fps);
  window.stopCamera = () => clearInterval(clock);

  const connection = new RTCPeerConnection({ iceServers: [] });
  connection.addTransceiver(track, { direction: "sendonly" });
  let begun;
  const first = new Promise((done) => (begun = done));
  const receive = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "hello") log.session = message.session;
    if (message.type !== "prediction") return;
    log.predictions.push([message.rtp_end, now(), message.latency_ms]);
    begun();
  };
  connection.createDataChannel("results").onmessage = receive;
  connection.createDataChannel("predictions", { ordered: false, maxRetransmits: 0 }).onmessage = receive;
  await connection.setLocalDescription();
  while (connection.iceGatheringState !== "complete") {
    await new Promise((done) => connection.addEventListener("icegatheringstatechange", done, { once: true }));
  }
  const answer = await fetch("/whip", {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: connection.localDescription.sdp,
  });
  const sdp = await answer.text();
  if (answer.status !== 201) return `HTTP ${answer.status}: ${sdp}`;
  await connection.setRemoteDescription({ type: "answer", sdp });
  await first;
  return null;
};
