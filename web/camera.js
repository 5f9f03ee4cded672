// The camera: asks the browser for the picture that the model needs, and no more.

/** The camera can't be used. `code` is short and stable, `message` says what to do about it. */
export class CameraError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const MESSAGES = {
  insecure:
    "Browsers give the camera to secure pages only. Open this page with https://, " +
    "or as http://localhost on the computer that runs the server. Started with --tls-self-signed, it has https://.",
  unsupported: "This browser cannot send live video. Use a current Firefox, Chrome, Edge or Safari.",
  denied:
    "The browser was not allowed to use the camera. Allow it for this page " +
    "(the camera or lock sign beside the address), then press Start camera.",
  system:
    "The operating system keeps the camera from this browser. Allow it in the system's privacy " +
    "settings, then press Start camera.",
  missing: "No camera was found. Connect one, then press Start camera.",
  busy:
    "The camera is there but gives no picture. Another program may be using it (a video call?): " +
    "close that, then press Start camera.",
  gone: "The camera went away. Connect it again, then press Start camera.",
};

function problem(code) {
  return new CameraError(code, MESSAGES[code]);
}

function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return problem(/system/i.test(error.message) ? "system" : "denied");
    case "NotFoundError":
    case "OverconstrainedError":
      return problem("missing");
    default: // NotReadableError, AbortError, and errors that browsers may add
      return problem("busy");
  }
}

async function ask({ height, frame_rate: rate }, camera) {
  // No width: a browser would cut the picture to the form that the two make, and hands with it.
  const video = {
    height: { ideal: height },
    frameRate: { ideal: rate, max: rate },
    ...(camera ? { deviceId: { exact: camera } } : { facingMode: { ideal: "user" } }),
  };
  for (;;) {
    try {
      return await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      if (error.name !== "OverconstrainedError") throw error;
      if (video.frameRate.max) delete video.frameRate.max; // it can't go that slowly; the sender drops frames
      else if (video.deviceId) delete video.deviceId; // it is not there any more: another will do
      else throw error;
    }
  }
}

/** The model reads so many pixels of the shorter side: of an upright picture that is the width. */
async function fitUpright(track, { height: shorter }) {
  const { width, height } = track.getSettings();
  if (!(width < height)) return;
  const constraints = { ...track.getConstraints(), height: { ideal: Math.round((shorter * height) / width) } };
  await track.applyConstraints(constraints).catch(() => {}); // then it stays small
}

/**
 * Open the camera: a stream with one video track and no sound. `camera` is the device wanted, "" for
 * the browser's choice; another one is taken where it is not there. `onGone(CameraError)` is called
 * if it is unplugged later. Throws CameraError.
 */
export async function openCamera(wanted, camera, onGone) {
  if (!window.isSecureContext) throw problem("insecure");
  if (!navigator.mediaDevices?.getUserMedia || !window.RTCPeerConnection) throw problem("unsupported");
  let stream;
  try {
    stream = await ask(wanted, camera);
  } catch (error) {
    throw explain(error);
  }
  const [track] = stream.getVideoTracks();
  await fitUpright(track, wanted);
  track.contentHint = "detail"; // keep the size, give up frames: hands must stay sharp
  track.addEventListener("ended", () => onGone(problem("gone")));
  return stream;
}

export function closeCamera(stream) {
  for (const track of stream.getTracks()) track.stop();
}
