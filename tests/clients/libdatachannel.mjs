// libdatachannel as a WHIP sender: `node libdatachannel.mjs vp8|obs URL FFMPEG...`
//
// `FFMPEG...` is a command that encodes the camera; what is put after it makes it send RTP here, which
// goes on as it is. `vp8` sends video alone; `obs` offers as OBS does (plugins/obs-webrtc/whip-output.cpp):
// Opus first, then H.264. Neither offers candidates, as OBS does not since 30.2: the server is to wait for
// checks. (Checks of its own could come before libdatachannel has kept the answer, and a handshake that is
// over before that fails.) On SIGTERM it deletes its session. `WHIP_TOKEN` is the server's token.

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";

import datachannel from "node-datachannel";

const [shape, url, ...ffmpeg] = process.argv.slice(2);
const TOKEN = { Authorization: `Bearer ${process.env.WHIP_TOKEN ?? ""}` }; // OBS: even if it is empty
const VIDEO = { type: 96, ssrc: 4242 };
const AUDIO = { type: 111, ssrc: 4241 };
const ENCODERS = {
  vp8: "-map 0:v -c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k -g 15",
  obs: "-map 0:v -c:v libx264 -preset veryfast -bf 0 -b:v 500k -g 15 -pix_fmt yuv420p",
};

const peer = new datachannel.PeerConnection("whip", { iceServers: [], bindAddress: "127.0.0.1" });
const tracks = [];
if (shape === "obs") {
  const audio = new datachannel.Audio("0", "SendOnly");
  audio.addOpusCodec(AUDIO.type);
  audio.addSSRC(AUDIO.ssrc, "obs", "stream", "stream-audio");
  tracks.push([peer.addTrack(audio), AUDIO, "-map 1:a -c:a libopus"]);
}
const video = new datachannel.Video(shape === "obs" ? "1" : "video", "SendOnly");
if (shape === "obs") video.addH264Codec(VIDEO.type);
else video.addVP8Codec(VIDEO.type);
video.addSSRC(VIDEO.ssrc, "obs", "stream", "stream-video");
tracks.push([peer.addTrack(video), VIDEO, ENCODERS[shape]]);

const connected = new Promise((resolve, reject) =>
  peer.onStateChange((state) => (state === "connected" ? resolve() : state === "failed" && reject(new Error(state)))),
);
peer.setLocalDescription();

const response = await fetch(url, {
  method: "POST",
  headers: { "Content-Type": "application/sdp", ...TOKEN },
  body: peer.localDescription().sdp.replace(/^a=(candidate:|end-of-candidates).*\r\n/gm, ""),
});
const answer = await response.text();
if (response.status !== 201) throw new Error(`${response.status} ${answer}`);
const session = new URL(response.headers.get("Location"), response.url);
peer.setRemoteDescription(answer, "answer");
await connected;

const outputs = [];
for (const [track, { type, ssrc }, encoder] of tracks) {
  const socket = createSocket("udp4", (packet) => track.isOpen() && track.sendMessageBinary(packet));
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  const options = `-f rtp -payload_type ${type} -ssrc ${ssrc} rtp://127.0.0.1:${socket.address().port}?pkt_size=1200`;
  outputs.push(...encoder.split(" "), ...options.split(" "));
}
const encoding = spawn(ffmpeg[0], [...ffmpeg.slice(1), ...outputs], { stdio: ["ignore", "ignore", "inherit"] });
encoding.on("exit", (code) => process.exit(code ?? 0));

process.once("SIGTERM", async () => {
  await fetch(session, { method: "DELETE", headers: TOKEN });
  encoding.kill();
});
