// What is known of a live: the channel's snapshot, kept current by its events.

const CHAT_LINES_MAX = 200;
const ORDERS_MAX = 200;
const ROOM_PARTS = ["questions", "announcement", "poll", "giveaway", "likes", "thread", "threads"];
const STANDING = new Set(["held", "paying", "captured", "waiting", "entered"]);
const ENDED = new Set(["expired", "refund_due", "refunded"]);

/** Event `change`, detail: the part that changed (`live`, `products`, `pin`, `sales`, `viewers`, `you`, `host`, `chat`,
 *  `chatPin`, `rules`, `coupon`). Event `line`, detail: a new chat line; `gone`: ids of lines to take away;
 *  `entered`, detail: the giveaway that what this page has just said has entered. Event `hold` and `order`: the buyer's own. */
export class Room extends EventTarget {
  constructor(channel) {
    super();
    this.channel = channel;
    this.live = { title: "", state: "waiting" };
    this.products = [];
    /** What the listing says beside the channel, by product: variants, links to shops. */
    this.listing = new Map();
    /** The reader's tier, as their token says; sales may open earlier for it. */
    this.tier = null;
    /** Who the reader is, and whether they follow the shop, as their token says. */
    this.reader = "";
    this.follower = false;
    this.pin = null;
    this.sales = new Map();
    this.viewers = 0;
    this.chat = [];
    this.chatPin = null;
    /** The coupon that the host shows. */
    this.coupon = null;
    /** What a checkout must say of whom it goes to: `nothing`, `email` or `address`. */
    this.contact = "nothing";
    this.rules = { slow_ms: 0, who: "everyone", links: true, repeats: true };
    this.peak = 0;
    this.questions = new Map();
    this.announcement = null;
    this.poll = null;
    this.giveaway = null;
    this.ticket = null;
    this.claimed = false;
    this.likes = 0;
    this.thread = [];
    this.threads = [];
    this.winners = [];
    /** Drawn giveaways that another has followed, while their winners may still claim, by id: `{giveaway, ticket, claimed, winners}`. */
    this.earlier = new Map();
    /** Ids of what was said from this page. */
    this.sentIds = new Set();
    this.you = null;
    this.host = null;
    this.ready = false;
    channel.addEventListener("snapshot", ({ detail }) => this.#onSnapshot(detail));
    channel.addEventListener("event", ({ detail }) => this.#onEvent(detail));
  }

  /** Takes in what the reader's token claims; null where there is none. */
  takeClaims(claimed) {
    this.tier = (claimed && claimed.tier) || null;
    this.reader = (claimed && claimed.sub) || "";
    this.follower = Boolean(claimed && claimed.follower);
  }

  /** Whether the reader has bought something here that they still have. */
  hasBought() {
    return Boolean(this.you) && this.you.orders.some(({ state }) => state === "sold" || state === "partly_refunded");
  }

  now() {
    return this.channel.serverNow();
  }

  product(id) {
    return this.products.find((product) => product.id === id) || null;
  }

  /** The sale that matters most for a product: an open one, else the next to open, else the last that was. */
  saleOf(productId) {
    const rank = (sale) => ["open", "paused", "scheduled", "closed"].indexOf(this.phase(sale));
    const sells = (sale) => sale.product_id === productId || (sale.lines || []).some((line) => line.product_id === productId);
    const sales = [...this.sales.values()].filter(sells);
    sales.sort((a, b) => rank(a) - rank(b) || (this.phase(a) === "scheduled" ? a.opens_at - b.opens_at : b.opens_at - a.opens_at));
    return sales[0] || null;
  }

  /** When a sale opens for this reader. */
  opensAt(sale) {
    const early = (sale.early || []).find(({ tier }) => tier === this.tier);
    return early ? Math.min(early.opens_at, sale.opens_at) : sale.opens_at;
  }

  /** Where a sale stands now: the clock may be ahead of the event that says so. */
  phase(sale) {
    if (sale.state === "closed") return "closed";
    const now = this.now();
    if (now >= sale.closes_at) return "closed";
    if (sale.state === "paused") return "paused";
    return sale.state === "open" || now >= this.opensAt(sale) ? "open" : "scheduled";
  }

  /** Whether a sale gathers entries for its draw. */
  isDrawing(sale) {
    return Boolean(sale.draw) && !sale.draw.seed && this.phase(sale) === "open" && this.now() < sale.draw.draws_at;
  }

  /** The lines of a sale, each with its number; a sale of one product has one. Of `productId` alone where that is given. */
  linesOf(sale, productId) {
    const { product_id, variant_id, price, per_buyer, stock, available, held, sold } = sale;
    const lines = sale.lines || [{ product_id, variant_id, price, per_buyer, stock, available, held, sold }];
    return lines.map((line, number) => ({ ...line, number })).filter((line) => !productId || line.product_id === productId);
  }

  /** The lines that a hold or an order is of, with their units. */
  unitsIn(held) {
    const sale = this.sales.get(held.sale_id);
    const units = held.lines || [{ line: 0, quantity: held.quantity }];
    if (!sale) return units.map(({ quantity }) => ({ product_id: held.product_id, quantity }));
    const lines = this.linesOf(sale);
    return units.map(({ line, quantity }) => ({ ...lines[line], quantity }));
  }

  /** What a line is called: the product and its form, such as "Paper lamp · Large". */
  nameOf({ product_id: id, variant_id: variant }) {
    const product = this.product(id);
    const form = this.formOf(id, variant);
    return [product ? product.title : id, form].filter(Boolean).join(" · ");
  }

  /** What a variant is called, such as "Red, L"; empty where the product has one form. */
  formOf(productId, variantId) {
    if (!variantId) return "";
    const listed = this.listing.get(productId);
    const variant = listed && listed.variants.find(({ sku }) => sku === variantId);
    return variant ? variant.values.join(", ") : variantId;
  }

  /** Takes in what the listing says. */
  takeListing(products) {
    this.listing = new Map(products.map((product) => [product.id, product]));
    this.products = this.products.map((product) => this.#listed(product));
    this.#changed("products");
  }

  #listed(product) {
    const listed = this.listing.get(product.id);
    return listed ? { ...product, shop_link: listed.shop_link } : product;
  }

  /** This buyer's standing hold of a sale, if any. */
  holdOf(saleId) {
    const holds = (this.you ? this.you.holds : []).filter((hold) => hold.sale_id === saleId && STANDING.has(hold.state));
    // What is set aside is more urgent than what one waits for.
    return holds.find(({ state }) => state !== "waiting" && state !== "entered") || holds[0] || null;
  }

  /** How many units of a line of a sale this buyer has or is about to have. */
  unitsOf(saleId, line = 0) {
    if (!this.you) return 0;
    const holds = this.you.holds.filter((hold) => hold.sale_id === saleId && STANDING.has(hold.state));
    const standing = new Set(holds.map((hold) => hold.id));
    const sold = this.you.orders.filter(
      (order) => order.sale_id === saleId && ["sold", "partly_refunded"].includes(order.state) && !standing.has(order.hold_id),
    );
    const here = ({ quantity, lines }) => (lines || [{ line: 0, quantity }]).find((units) => units.line === line);
    return [...holds, ...sold].reduce((sum, held) => sum + (here(held) ? here(held).quantity : 0), 0);
  }

  /** The question being answered. */
  picked() {
    return [...this.questions.values()].find(({ state }) => state === "picked") || null;
  }

  /** Questions as they matter: the one being answered, the most wanted, then the answered, newest first. */
  questionList() {
    const rank = ({ state }) => ["picked", "open", "answered"].indexOf(state);
    return [...this.questions.values()].sort(
      (a, b) => rank(a) - rank(b) || (a.state === "answered" ? b.at - a.at : b.votes - a.votes || a.at - b.at),
    );
  }

  /** Takes in that this page has said something; with a ticket where that entered the giveaway, and without an id where it was
   *  said too soon after the last to be heard. */
  onSaid({ message_id: id, ticket }) {
    if (id) this.sentIds.add(id);
    if (!ticket || this.ticket) return;
    this.takeTicket(ticket);
    this.#own("entered", this.giveaway);
  }

  /** Takes in a ticket that a reply told of. */
  takeTicket(ticket) {
    this.ticket = ticket;
    this.#changed("giveaway");
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
    // An order that was paid or has ended ended its hold too.
    if (order.state === "sold" || ENDED.has(order.state)) this.you.holds = this.you.holds.filter((hold) => hold.id !== order.hold_id);
    this.#changed("you");
  }

  #onSnapshot(snapshot) {
    const recovered = Boolean(snapshot.resumed && snapshot.resumed.recovered);
    this.live = snapshot.live;
    this.products = snapshot.products.map((product) => this.#listed(product));
    this.pin = snapshot.pin;
    this.sales = new Map(snapshot.sales.map((sale) => [sale.id, sale]));
    this.viewers = snapshot.viewers;
    this.you = snapshot.you;
    this.host = snapshot.host;
    this.chatPin = snapshot.chat_pin;
    this.rules = snapshot.chat_rules;
    this.coupon = snapshot.coupon || null;
    this.contact = snapshot.contact || "nothing";
    const { room } = snapshot;
    this.peak = room.peak;
    this.questions = new Map(room.questions.map((question) => [question.id, question]));
    this.announcement = room.announcement;
    this.poll = room.poll;
    if (!room.giveaway || !this.giveaway || room.giveaway.id !== this.giveaway.id) this.claimed = false;
    this.giveaway = room.giveaway;
    const current = room.giveaway && room.giveaway.id;
    // Those that others have followed, as far as this reader has won in them, or is of the host's team.
    const drawn = [...room.won.map(({ giveaway, claimed }) => ({ giveaway, claimed, won: true, winners: [] })), ...(snapshot.host ? snapshot.host.drawn : [])];
    this.earlier = new Map(drawn.filter(({ giveaway }) => giveaway.id !== current).map((one) => [one.giveaway.id, one]));
    this.ticket = room.ticket;
    this.likes = room.likes;
    this.thread = room.thread;
    this.threads = snapshot.host ? snapshot.host.threads : [];
    this.winners = snapshot.host ? snapshot.host.winners : [];
    if (!recovered) this.chat = snapshot.chat.slice(-CHAT_LINES_MAX);
    this.ready = true;
    for (const part of ["live", "products", "pin", "sales", "viewers", "you", "host", "chatPin", "rules", "coupon", ...ROOM_PARTS]) this.#changed(part);
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
      case "chat.deleted":
        this.chat = this.chat.filter((line) => !event.message_ids.includes(line.id));
        return this.#own("gone", event.message_ids);
      case "chat.pinned":
        this.chatPin = event.message;
        return this.#changed("chatPin");
      case "chat.rules":
        this.rules = event.rules;
        return this.#changed("rules");
      case "chat.standing":
        if (this.you) this.you.standing = event.standing;
        return this.#changed("you");
      case "question.changed":
        this.questions.set(event.question.id, event.question);
        return this.#changed("questions");
      case "question.removed":
        this.questions.delete(event.question_id);
        return this.#changed("questions");
      case "question.votes": {
        const question = this.questions.get(event.question_id);
        if (!question) return undefined;
        this.questions.set(question.id, { ...question, votes: event.votes });
        return this.#changed("questions");
      }
      case "coupon.changed":
        this.coupon = event.coupon;
        return this.#changed("coupon");
      case "announcement.changed":
        this.announcement = event.announcement;
        return this.#changed("announcement");
      case "poll.changed":
        this.poll = event.poll;
        return this.#changed("poll");
      case "poll.votes":
        if (!this.poll || this.poll.id !== event.poll_id) return undefined;
        this.poll = { ...this.poll, votes: event.votes };
        return this.#changed("poll");
      case "giveaway.changed":
        if (!event.giveaway || !this.giveaway || event.giveaway.id !== this.giveaway.id) {
          this.#keepEarlier(event.giveaway);
          this.ticket = null;
          this.claimed = false;
          this.winners = [];
        }
        this.giveaway = event.giveaway;
        return this.#changed("giveaway");
      case "giveaway.entries":
        if (!this.giveaway || this.giveaway.id !== event.giveaway_id) return undefined;
        this.giveaway = { ...this.giveaway, entries: event.entries };
        return this.#changed("giveaway");
      case "giveaway.won":
        // Who entered by a word in the chat learns their ticket with it.
        return this.#own("won", event.giveaway);
      case "giveaway.winners":
        if (this.earlier.has(event.giveaway_id)) this.earlier.get(event.giveaway_id).winners = event.winners;
        else this.winners = event.winners;
        return this.#changed("giveaway");
      case "likes":
        this.likes = event.total;
        return this.#changed("likes");
      case "thread.message": {
        const { user_id, user_name, message } = event;
        if (this.host) {
          this.threads = [{ user_id, user_name, last: message }, ...this.threads.filter((line) => line.user_id !== user_id)];
          return this.#changed("threads");
        }
        if (this.thread.some(({ id }) => id === message.id)) return undefined;
        this.thread = [...this.thread, message];
        return this.#changed("thread");
      }
      case "live.changed":
        this.live = event.live;
        return this.#changed("live");
      case "products.changed":
        this.products = event.products.map((product) => this.#listed(product));
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
        const stock = available + held + sold;
        const lines = sale.lines && event.lines && sale.lines.map((line, i) => ({ ...line, ...event.lines[i] }));
        this.sales.set(sale.id, { ...sale, available, held, sold, stock, ...(lines && { lines }) });
        return this.#changed("sales");
      }
      case "viewers.changed":
        this.viewers = event.viewers;
        this.peak = event.peak;
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

  /** A giveaway that another follows stays for its winners; one that was taken away does not. */
  #keepEarlier(next) {
    const { giveaway, ticket, claimed, winners } = this;
    if (next && giveaway && !giveaway.open && giveaway.claim_until > this.now()) this.earlier.set(giveaway.id, { giveaway, ticket, claimed, winners });
    for (const [id, { giveaway: old }] of this.earlier) if (old.claim_until <= this.now()) this.earlier.delete(id);
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

/** Whether the reader is of the host's team. */
export function isStaff(room) {
  return Boolean(room.you && room.you.role !== "viewer");
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
