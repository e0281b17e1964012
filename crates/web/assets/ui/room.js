// What is known of a live: the channel's snapshot, kept current by its events.

const CHAT_LINES_MAX = 200;
const ORDERS_MAX = 200;
const STANDING = new Set(["held", "paying", "captured"]);

/** Event `change`, detail: the part that changed (`live`, `products`, `pin`, `sales`, `viewers`, `you`, `host`, `chat`).
 *  Event `line`, detail: a new chat line. Event `hold` and `order`: the buyer's own. */
export class Room extends EventTarget {
  constructor(channel) {
    super();
    this.channel = channel;
    this.live = { title: "", state: "waiting" };
    this.products = [];
    this.pin = null;
    this.sales = new Map();
    this.viewers = 0;
    this.chat = [];
    this.you = null;
    this.host = null;
    this.ready = false;
    channel.addEventListener("snapshot", ({ detail }) => this.#onSnapshot(detail));
    channel.addEventListener("event", ({ detail }) => this.#onEvent(detail));
  }

  now() {
    return this.channel.serverNow();
  }

  product(id) {
    return this.products.find((product) => product.id === id) || null;
  }

  /** The sale that matters most for a product: an open one, else the next to open, else the last that was. */
  saleOf(productId) {
    const rank = (sale) => ["open", "scheduled", "closed"].indexOf(this.phase(sale));
    const sales = [...this.sales.values()].filter((sale) => sale.product_id === productId);
    sales.sort((a, b) => rank(a) - rank(b) || (rank(a) === 1 ? a.opens_at - b.opens_at : b.opens_at - a.opens_at));
    return sales[0] || null;
  }

  /** Where a sale stands now: the clock may be ahead of the event that says so. */
  phase(sale) {
    if (sale.state === "closed") return "closed";
    const now = this.now();
    if (now >= sale.closes_at) return "closed";
    return sale.state === "open" || now >= sale.opens_at ? "open" : "scheduled";
  }

  /** This buyer's standing hold of a sale, if any. */
  holdOf(saleId) {
    const holds = this.you ? this.you.holds : [];
    return holds.find((hold) => hold.sale_id === saleId && STANDING.has(hold.state)) || null;
  }

  /** How many units of a sale this buyer has or is about to have. */
  unitsOf(saleId) {
    if (!this.you) return 0;
    const holds = this.you.holds.filter((hold) => hold.sale_id === saleId && STANDING.has(hold.state));
    const standing = new Set(holds.map((hold) => hold.id));
    const sold = this.you.orders.filter(
      (order) => order.sale_id === saleId && order.state === "sold" && !standing.has(order.hold_id),
    );
    return [...holds, ...sold].reduce((sum, { quantity }) => sum + quantity, 0);
  }

  /** Takes in a hold that a reply told of. */
  takeHold(hold) {
    if (!this.you) return;
    const others = this.you.holds.filter((known) => known.id !== hold.id);
    this.you.holds = STANDING.has(hold.state) ? [hold, ...others] : others;
    this.#changed("you");
  }

  /** Takes in an order that a reply told of. */
  takeOrder(order) {
    if (!this.you) return;
    this.you.orders = newestFirst(order, this.you.orders);
    // An order that ended, in whichever way, ended its hold too.
    if (order.state !== "paying") this.you.holds = this.you.holds.filter((hold) => hold.id !== order.hold_id);
    this.#changed("you");
  }

  #onSnapshot(snapshot) {
    const recovered = Boolean(snapshot.resumed && snapshot.resumed.recovered);
    this.live = snapshot.live;
    this.products = snapshot.products;
    this.pin = snapshot.pin;
    this.sales = new Map(snapshot.sales.map((sale) => [sale.id, sale]));
    this.viewers = snapshot.viewers;
    this.you = snapshot.you;
    this.host = snapshot.host;
    if (!recovered) this.chat = snapshot.chat.slice(-CHAT_LINES_MAX);
    this.ready = true;
    for (const part of ["live", "products", "pin", "sales", "viewers", "you", "host"]) this.#changed(part);
    if (!recovered) this.#changed("chat");
  }

  #onEvent(event) {
    switch (event.type) {
      case "chat.message":
        if (this.chat.some((line) => line.id === event.id)) return;
        this.chat.push(event);
        if (this.chat.length > CHAT_LINES_MAX) this.chat.shift();
        this.dispatchEvent(new CustomEvent("line", { detail: event }));
        return;
      case "live.changed":
        this.live = event.live;
        return this.#changed("live");
      case "products.changed":
        this.products = event.products;
        return this.#changed("products");
      case "pin.changed":
        this.pin = event.pin;
        return this.#changed("pin");
      case "sale.changed":
        this.sales.set(event.sale.id, event.sale);
        return this.#changed("sales");
      case "stock.changed": {
        const sale = this.sales.get(event.sale_id);
        if (!sale) return undefined;
        const { available, held, sold } = event;
        this.sales.set(sale.id, { ...sale, available, held, sold, stock: available + held + sold });
        return this.#changed("sales");
      }
      case "viewers.changed":
        this.viewers = event.viewers;
        return this.#changed("viewers");
      case "hold.changed":
        this.takeHold(event.hold);
        return this.#own("hold", event.hold);
      case "order.changed":
        this.takeOrder(event.order);
        return this.#own("order", event.order);
      case "host.order":
        if (!this.host) return undefined;
        this.host = { totals: event.totals, orders: newestFirst(event.order, this.host.orders).slice(0, ORDERS_MAX) };
        return this.#changed("host");
      default:
        return undefined;
    }
  }

  #changed(part) {
    this.dispatchEvent(new CustomEvent("change", { detail: part }));
  }

  #own(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** `order` in its place: an order that changes stays where it was. */
function newestFirst(order, orders) {
  const at = orders.findIndex((known) => known.id === order.id);
  if (at < 0) return [order, ...orders];
  return orders.map((known) => (known.id === order.id ? order : known));
}

/** Calls `render` when one of `parts` changed, once a frame however many changes came, and once at the start. */
export function renderOn(room, parts, render) {
  let asked = false;
  const wanted = new Set(parts);
  const ask = () => {
    if (asked) return;
    asked = true;
    // A timer and not an animation frame: a hidden tab must stay current too.
    setTimeout(() => {
      asked = false;
      render();
    }, 0);
  };
  room.addEventListener("change", ({ detail }) => wanted.has(detail) && ask());
  ask();
  return ask;
}
