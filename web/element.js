// Making the page's parts: text goes in as text, whatever it says.

/** A new element of class `name` that says `text`. */
export function element(tag, name = "", text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}
