// Where picture and sound come from: camera and microphone, the screen, or the test picture.

import { t } from "../ui/tongue.js";
import { testPicture } from "./testpicture.js";

const TEST_SIZE = [540, 960];
const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/** What stands in the way of a camera here, or null. Phones give none to a page that came over plain HTTP. */
export function cameraObstacle() {
  if (!window.isSecureContext) return "insecure";
  if (!navigator.mediaDevices || !navigator.mediaDevices.getUserMedia) return "unsupported";
  return null;
}

export function screenObstacle() {
  if (!window.isSecureContext) return "insecure";
  if (!navigator.mediaDevices || !navigator.mediaDevices.getDisplayMedia) return "unsupported";
  return null;
}

/**
 * Opens a source: `{kind, stream, contentHint, resume(), stop()}`. `picks` names devices: `{camera, microphone}`.
 * Rejects with an `Error` whose message is for people.
 */
export async function openSource(kind, picks = {}) {
  if (kind === "test") {
    const test = testPicture(TEST_SIZE);
    return { kind, contentHint: "motion", ...test };
  }
  try {
    const stream = kind === "screen" ? await openScreen() : await openCamera(picks);
    return {
      kind,
      stream,
      // Text on a screen must stay sharp; a face must stay fluent.
      contentHint: kind === "screen" ? "detail" : "motion",
      resume: () => {},
      stop: () => stream.getTracks().forEach((track) => track.stop()),
    };
  } catch (error) {
    throw new Error(explain(kind, error));
  }
}

async function openCamera({ camera, microphone }) {
  const exact = (id) => (id ? { deviceId: { exact: id } } : {});
  return navigator.mediaDevices.getUserMedia({
    video: { ...VIDEO, ...(camera ? exact(camera) : { facingMode: { ideal: "user" } }) },
    audio: { ...AUDIO, ...exact(microphone) },
  });
}

/** The screen, and the microphone with it: a host who shows a page still speaks. */
async function openScreen() {
  const screen = await navigator.mediaDevices.getDisplayMedia({ video: VIDEO, audio: true });
  if (screen.getAudioTracks().length > 0) return screen;
  try {
    const voice = await navigator.mediaDevices.getUserMedia({ audio: AUDIO });
    for (const track of voice.getAudioTracks()) screen.addTrack(track);
  } catch {
    // Without a microphone it is a silent picture, which is what was asked for.
  }
  return screen;
}

/** Cameras and microphones to pick from; their names come only after the first permission. */
export async function listDevices() {
  if (!navigator.mediaDevices || !navigator.mediaDevices.enumerateDevices) return { cameras: [], microphones: [] };
  const devices = await navigator.mediaDevices.enumerateDevices();
  return {
    cameras: devices.filter((device) => device.kind === "videoinput"),
    microphones: devices.filter((device) => device.kind === "audioinput"),
  };
}

function explain(kind, error) {
  const screen = kind === "screen";
  switch (error.name) {
    case "NotAllowedError":
      return screen
        ? t("The screen was not shared. Choose it again, and pick a window or the whole screen.")
        : t("The browser did not allow the camera. Allow it in the address bar, then choose it again.");
    case "NotFoundError":
    case "OverconstrainedError":
      return screen ? t("No screen was found. Use the test picture.") : t("No camera or microphone was found. Plug one in, or use the test picture.");
    case "NotReadableError":
      return screen ? t("Another program keeps the screen from being shared. Close it, then choose it again.") : t("Another program is using the camera or microphone. Close it there, then choose it again.");
    default:
      return screen ? t("The screen can't be used: {reason}.", { reason: error.message || error.name }) : t("The camera or microphone can't be used: {reason}.", { reason: error.message || error.name });
  }
}
