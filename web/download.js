// Files for the person to keep: a transcript as text, WebVTT or JSON, and whatever else is saved.

const pad = (number, width = 2) => String(Math.floor(number)).padStart(width, "0");

/** Seconds as WebVTT writes them: hh:mm:ss.mmm. */
function cueTime(seconds) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  return `${pad(ms / 3_600_000)}:${pad((ms / 60_000) % 60)}:${pad((ms / 1000) % 60)}.${pad(ms % 1000, 3)}`;
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** What can be made of signs [{gloss, p, start_s, end_s, at, line}], oldest first. */
const FORMATS = {
  text: { type: "text/plain", ending: "txt", of: (signs) => signs.map(({ line }) => line).join("\n") + "\n" },
  vtt: {
    type: "text/vtt",
    ending: "vtt",
    of: (signs) =>
      ["WEBVTT\n", "NOTE Glosses guessed by livegloss; not a translation.\n",
        ...signs.map(({ gloss, start_s, end_s }) => `${cueTime(start_s)} --> ${cueTime(Math.max(end_s, start_s + 0.1))}\n${escaped(gloss)}\n`),
      ].join("\n"),
  },
  json: {
    type: "application/json",
    ending: "json",
    of: (signs) =>
      JSON.stringify({ made_by: "livegloss", note: "gloss guesses, not a translation", signs: signs.map(({ line, ...sign }) => sign) }, null, 1) + "\n",
  },
};

/** Hands the person the transcript. `format` is one of text, vtt, json. */
export function download(signs, format) {
  const { type, ending, of } = FORMATS[format];
  save(`livegloss-transcript.${ending}`, type, of(signs));
}

/** Hands the person a file. */
export function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1_000);
}
