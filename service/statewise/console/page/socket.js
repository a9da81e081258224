// A session on the server: one WebSocket, questions answered in order. It ends with the page.

/** What the server refused; `reason` is a row of the protocol's error table, or empty. */
export class Refused extends Error {
  constructor({ reason, message }) {
    super(reason ? `${reason}: ${message}` : message);
    this.reason = reason;
  }
}

export class Session {
  #socket = null;
  #waiting = [];

  /** Opens a session for a series; returns what the server tells of it. */
  async open(wanted) {
    const { opened, refused } = await this.#ask({ open: wanted });
    if (refused) throw new Refused(refused);
    return opened;
  }

  /** Takes the session so many timesteps on; returns `{rows, refused}`. */
  async step(count) {
    const { stepped, refused } = await this.#ask({ step: count });
    return { rows: stepped ?? [], refused: refused ? new Refused(refused) : null };
  }

  close() {
    this.#socket?.close();
    this.#socket = null;
  }

  async #ask(message) {
    const socket = await this.#connected();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      socket.send(JSON.stringify(message));
    });
  }

  #connected() {
    if (this.#socket?.readyState === WebSocket.OPEN) return this.#socket;
    const url = new URL("play", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    url.hash = "";
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.addEventListener("message", (event) => this.#waiting.shift()?.resolve(JSON.parse(event.data)));
    socket.addEventListener("close", () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error("the connection to the server has ended, and the session with it"));
    });
    return new Promise((resolve, reject) => {
      socket.addEventListener("open", () => resolve(socket));
      socket.addEventListener("error", () => reject(new Error("the server does not answer, or too many people play")));
    });
  }
}
