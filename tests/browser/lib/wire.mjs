// A page's channel on a bad network.

/** What was sent is kept, an answer may be lost, and something said that the server did not say. */
export class Wire {
  #sent = [];
  #losing = null;
  #page = null;
  #alter = null;

  tap(page) {
    return page.routeWebSocket(/\/channel\//, (socket) => {
      const server = socket.connectToServer();
      this.#page = socket;
      socket.onMessage((text) => {
        const message = JSON.parse(text);
        this.#sent.push(message);
        if (this.#losing && this.#losing.type === message.type) this.#losing.id = message.id;
        server.send(text);
      });
      server.onMessage((text) => {
        if (this.#losing && this.#losing.id !== undefined && JSON.parse(text).id === this.#losing.id) this.#losing = null;
        else socket.send(this.#snapshot(text));
      });
    });
  }

  /** What the snapshot has of the room is what `alter` makes of it. */
  alterRoom(alter) {
    this.#alter = alter;
  }

  #snapshot(text) {
    if (!this.#alter || !text.includes('"reply"')) return text;
    const message = JSON.parse(text);
    if (!message.result || !message.result.room) return text;
    this.#alter(message.result.room);
    return JSON.stringify(message);
  }

  /** The next answer to a request of this type does not arrive. */
  loseReplyTo(type) {
    this.#losing = { type };
  }

  sent(wanted) {
    return this.#sent.filter(({ type }) => type === wanted);
  }

  tell(event) {
    this.#page.send(JSON.stringify(event));
  }
}
