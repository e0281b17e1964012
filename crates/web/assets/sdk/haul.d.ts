// Types of Haul's client module. Times are milliseconds since 1970, like `Channel.serverNow()`; on the wire they are RFC 3339,
// and `timeText` says one to the server.

export const SUBPROTOCOL: "haul.v1";

export interface Money { amount_minor: number; currency: string }
export type Role = "viewer" | "moderator" | "host";
export interface LiveView { title: string; state: "waiting" | "live" | "reconnecting"; sound?: "moq_only" }
export interface Product { id: string; title: string; subtitle: string; image_url: string; list_price: Money }
export interface Pin {
  product_id: string;
  since: number;
  /** Milliseconds since the broadcast began; null where there was no picture. */
  media_ms: number | null;
}
export interface StockView { available: number; held: number; sold: number }
/** Units of one line of a sale; lines are counted from 0. */
export interface LineUnits { line: number; quantity: number }
export interface SaleLine extends StockView {
  product_id: string;
  variant_id?: string;
  price: Money;
  per_buyer: number;
  stock: number;
}
export interface Sale {
  id: string;
  product_id: string;
  variant_id?: string;
  price: Money;
  state: "scheduled" | "open" | "frozen" | "paused" | "closed";
  opens_at: number;
  closes_at: number;
  per_buyer: number;
  hold_ms: number;
  stock: number;
  available: number;
  held: number;
  sold: number;
  /** How long an offer to the next in line stands; absent: one cannot wait in line. */
  offer_ms?: number;
  /** Absent: who comes first gets something. */
  draw?: Draw;
  /** Absent: units are set aside with the hold. */
  mode?: "first_paid";
  early?: { tier: string; opens_at: number }[];
  /** What is sold, where it is more than one product. */
  lines?: SaleLine[];
}
export interface Draw {
  /** Until then a hold is an entry. */
  draws_at: number;
  /** SHA-256 of the seed, in hexadecimal digits. */
  commitment: string;
  /** Once it is drawn. */
  seed: string | null;
}
export interface Coupon {
  code: string;
  /** This, or `percent`. */
  amount?: Money;
  percent?: number;
  minimum?: Money;
  sale_id?: string;
  product_ids?: string[];
  limit: number;
  per_buyer: number;
  valid_from: number;
  valid_until: number;
  closed: boolean;
}
export interface ChatLine {
  id: string;
  name: string;
  role: Role;
  badges?: ("follower" | "verified_buyer" | "repeat_buyer")[];
  /** As the token says. */
  tier?: string;
  text: string;
  reply_to?: { id: string; name: string; text: string };
  at: number;
}
export interface ChatRules {
  /** The pause between two messages of one person; 0: none. */
  slow_ms: number;
  who: "everyone" | "followers" | "buyers" | "staff";
  links: boolean;
  repeats: boolean;
}
export interface Question {
  id: string;
  name: string;
  text: string;
  product_id: string | null;
  votes: number;
  state: "open" | "picked" | "answered";
  at: number;
  media_ms: number | null;
  answer: string | null;
}
export interface Announcement { text: string; at: number }
export interface Poll { id: string; question: string; options: string[]; votes: number[]; open: boolean; closes_at: number }
export interface Giveaway {
  id: string;
  title: string;
  word: string | null;
  winners_wanted: number;
  open: boolean;
  closes_at: number;
  entries: number;
  /** SHA-256 of the seed. */
  commitment: string;
  /** From the draw on. */
  seed: string | null;
  winners: { name: string; ticket: string }[];
  claim_until: number | null;
}
export interface Winner { user_id: string; name: string; ticket: string; claimed: boolean }
export interface ThreadMessage { id: string; name: string; from_team: boolean; text: string; at: number }
export interface ThreadLine { user_id: string; user_name: string; last: ThreadMessage }
export type Reaction = "heart" | "laugh" | "wow" | "clap" | "fire";
export type Measure = "mute" | "ban" | "shadow_ban" | "restore";
export interface Standing { measure: Measure; until: number | null; reason: string | null }
export interface LogEntry {
  at: number;
  by: string;
  by_name: string;
  action: Measure | "delete" | "rules" | "words";
  user_id: string | null;
  user_name: string | null;
  until: number | null;
  reason: string | null;
  text: string | null;
}
/** Somebody against whom something is in force. */
export interface Restricted {
  user_id: string;
  name: string;
  measure: Measure;
  until: number | null;
  reason: string | null;
  /** The role of who put it in force: it holds against lower ones. */
  by_role: Role;
}
export interface Hold {
  id: string;
  sale_id: string;
  quantity: number;
  /** Absent: of line 0. */
  lines?: LineUnits[];
  /**
   * Waiting: in line, at `position`; it becomes held when it is its turn. Entered: in a draw; it becomes held or released
   * then.
   */
  state: "held" | "paying" | "captured" | "sold" | "waiting" | "entered" | "released";
  deadline: number | null;
  position?: number;
  /** The code of the coupon of which it has a use. */
  coupon?: string;
}
/** One line of an order. */
export interface OrderLine {
  /** Which of the sale's lines, from 0. */
  line: number;
  product_id: string;
  /** Which form of the product, where the sale was of one. */
  variant_id?: string;
  quantity: number;
  /** Of one unit. */
  unit_price: Money;
  /** Of all its units. */
  total: Money;
}
export interface Order {
  id: string;
  hold_id: string;
  sale_id: string;
  product_id: string;
  buyer_name: string;
  quantity: number;
  /** Units of it that were sold and are on the shelf again. */
  returned?: number;
  /** What was bought; at least one. Their totals are before the coupon. */
  lines: OrderLine[];
  /** Without what the coupon takes off. */
  total: Money;
  coupon?: { code: string; amount: Money };
  state: "paying" | "sold" | "expired" | "refund_due" | "partly_refunded" | "refunded";
  /** How much of it went back. */
  refunded: Money;
  /** Whether the buyer disputes the payment, and that is not decided yet. */
  disputed: boolean;
  created_at: number;
}
export interface Totals { orders: number; units: number; revenue: Money[] }
/** Whom an order goes to, and where. Fields of at most 200 characters. */
export interface Contact {
  name?: string;
  email?: string;
  phone?: string;
  /** At most 6 lines. */
  address?: string[];
  postal_code?: string;
  /** ISO 3166-1, two capitals. */
  country?: string;
}
export interface Snapshot {
  session: string;
  server_time: number;
  epoch: string;
  offset: number;
  resumed: { recovered: boolean } | null;
  you: { name: string; role: Role; holds: Hold[]; orders: Order[]; standing: Standing | null } | null;
  live: LiveView;
  products: Product[];
  pin: Pin | null;
  sales: Sale[];
  coupon: Coupon | null;
  /** What `contact` of a checkout must have. `address`: name, address, country, and email or phone. */
  contact: "nothing" | "email" | "address";
  viewers: number;
  chat: ChatLine[];
  chat_pin: ChatLine | null;
  chat_rules: ChatRules;
  room: {
    questions: Question[];
    announcement: Announcement | null;
    poll: Poll | null;
    giveaway: Giveaway | null;
    ticket: string | null;
    likes: number;
    peak: number;
    thread: ThreadMessage[];
    yours: Question[];
    won: { giveaway: Giveaway; claimed: boolean }[];
  };
  host: { totals: Totals; orders: Order[]; threads: ThreadLine[]; winners: Winner[]; drawn: { giveaway: Giveaway; winners: Winner[] }[] } | null;
}

/** What a viewer is sent of the pictures. */
export interface QualityView {
  /** Null over MoQ. */
  session: string | null;
  /** Some: those that would come late are left out. None: sound alone, because no layer fits. */
  pictures: "all" | "some" | "none";
  layer: string | null;
  /** A layer's name, or "auto". */
  choice: string;
  reason: "best" | "asked" | "network";
  /** The largest first. */
  layers: { name: string; bitrate_bps: number }[];
}

/** What a request that has nothing more to say is answered with. */
export interface Done { server_time: number }

/**
 * What `Channel.request` may ask: the fields of each type, and what its promise resolves with. Times among the fields are texts:
 * see `timeText`.
 */
export interface Requests {
  "hello": { fields: { token?: string; resume?: { epoch: string; offset: number }; locale?: string; ref?: string }; result: Snapshot };
  "ping": { fields: {}; result: Done };
  "quality.set": { fields: { session: string; layer: string }; result: { quality: QualityView } };
  "chat.send": {
    fields: { text: string; client_id?: string; reply_to?: string };
    result: { message_id: string; ticket?: string } | { ticket: string };
  };
  "chat.delete": { fields: { message_id: string }; result: Done };
  "chat.pin": { fields: { message_id: string }; result: Done };
  "chat.unpin": { fields: {}; result: Done };
  "chat.rules.set": {
    fields: { slow_ms?: number; who?: ChatRules["who"]; links?: boolean; repeats?: boolean };
    result: { rules: ChatRules };
  };
  "chat.words": { fields: { add?: string[]; remove?: string[] }; result: { words: string[] } };
  "chat.moderate": {
    fields: { action: Measure; message_id?: string; user_id?: string; duration_ms?: number; reason?: string };
    result: Done;
  };
  "chat.log": { fields: {}; result: { log: LogEntry[]; standing: Restricted[] } };
  "question.ask": { fields: { text: string; product_id?: string; client_id?: string }; result: { question_id: string } };
  "question.vote": { fields: { question_id: string }; result: Done };
  "question.pick": { fields: { question_id: string }; result: Done };
  "question.unpick": { fields: { question_id: string }; result: Done };
  "question.answer": { fields: { question_id: string; text?: string }; result: Done };
  "question.remove": { fields: { question_id: string }; result: Done };
  "announce": { fields: { text?: string }; result: Done };
  "poll.open": { fields: { question: string; options: string[]; duration_ms: number }; result: { poll_id: string } };
  "poll.vote": { fields: { poll_id: string; option: number }; result: Done };
  "poll.close": { fields: { poll_id: string }; result: Done };
  "giveaway.start": {
    fields: { title: string; word?: string; winners: number; duration_ms: number; claim_ms: number };
    result: { giveaway_id: string };
  };
  "giveaway.enter": { fields: { giveaway_id: string }; result: { ticket: string } };
  "giveaway.draw": { fields: { giveaway_id: string }; result: Done };
  "giveaway.claim": { fields: { giveaway_id: string }; result: Done };
  "giveaway.end": { fields: { giveaway_id: string }; result: Done };
  /** Without a reply unless it is refused: for `Channel.tell`. */
  "like": { fields: { count?: number; kind?: Reaction }; result: Done };
  "thread.send": { fields: { text: string; user_id?: string; client_id?: string }; result: { message_id: string; ticket?: string } };
  "thread.read": { fields: { user_id?: string }; result: { messages: ThreadMessage[] } };
  /** `before`: the id of the last message of the page before. */
  "thread.list": { fields: { before?: string }; result: { threads: ThreadLine[] } };
  "coupon.make": {
    fields: {
      code: string;
      /** This, or `percent`. */
      amount_minor?: number;
      percent?: number;
      limit: number;
      per_buyer?: number;
      valid_from?: string;
      duration_ms: number;
      sale_id?: string;
      product_ids?: string[];
      minimum_minor?: number;
      show?: boolean;
    };
    result: { coupon: Coupon };
  };
  "coupon.close": { fields: { code: string }; result: { coupon: Coupon } };
  "coupon.add_uses": { fields: { code: string; limit: number }; result: { coupon: Coupon } };
  "coupon.show": { fields: { code: string }; result: { coupon: Coupon } };
  "coupon.hide": { fields: {}; result: Done };
  "pin": { fields: { product_id: string }; result: Done };
  "unpin": { fields: {}; result: Done };
  "sale.schedule": {
    fields: {
      product_id: string;
      variant_id?: string;
      price_minor: number;
      stock: number;
      per_buyer?: number;
      opens_at?: string;
      duration_ms: number;
      hold_ms?: number;
      offer_ms?: number;
      draw_ms?: number;
      mode?: "hold_in_cart" | "first_paid";
      early?: { tier: string; ms: number }[];
      /** Its other lines. */
      more?: { product_id: string; variant_id?: string; price_minor: number; stock: number; per_buyer?: number }[];
      key?: string;
    };
    result: { sale: Sale };
  };
  "sale.open": { fields: { sale_id: string }; result: { sale: Sale } };
  "sale.close": { fields: { sale_id: string }; result: { sale: Sale } };
  "sale.reschedule": { fields: { sale_id: string; opens_at?: string; closes_at?: string }; result: { sale: Sale } };
  "sale.pause": { fields: { sale_id: string }; result: { sale: Sale } };
  "sale.resume": { fields: { sale_id: string }; result: { sale: Sale } };
  "sale.add_stock": { fields: { sale_id: string; line?: number; units: number; key: string }; result: { sale: Sale } };
  "order.restock": { fields: { order_id: string; lines?: LineUnits[]; key: string }; result: { order: Order } };
  "hold": {
    fields: { sale_id: string; quantity?: number; lines?: LineUnits[]; key: string; coupon?: string };
    result: { hold: Hold; server_time: number };
  };
  "wait": { fields: { sale_id: string; line?: number; quantity?: number; key: string }; result: { hold: Hold; server_time: number } };
  "hold.cancel": { fields: { sale_id: string; hold_id: string }; result: { hold: Hold; server_time: number } };
  "click": { fields: { product_id: string; ref?: string }; result: Done };
  "checkout": {
    fields: { sale_id: string; hold_id: string; coupon?: string; ref?: string; contact?: Contact };
    result: { order: Order; hold: Hold; pay_url: string; server_time: number };
  };
}

/** Codes of the server, and the client's own. */
export type Code =
  | "bad_request" | "unknown_type" | "unauthorized" | "forbidden" | "not_found" | "rate_limited" | "muted" | "banned" | "rejected" | "sale_not_open"
  | "sale_paused" | "sale_closed" | "sold_out" | "not_enough" | "no_line" | "buyer_limit" | "coupon_invalid" | "coupon_used_up" | "contact_invalid" | "key_reused" | "unknown_hold" | "hold_over"
  | "wrong_state" | "pending" | "unavailable" | "internal"
  | "disconnected" | "timeout" | "network" | "aborted" | (string & {});

export class HaulError extends Error {
  readonly code: Code;
  readonly retryAfterMs?: number;
  readonly status?: number;
  /** What exactly was wrong, where one code stands for several things. */
  readonly why?: Why;
  /** What is in force against the reader, where that is why. */
  readonly standing?: Standing;
}

export type Why =
  | "name_taken" | "word" | "link" | "repeated" | "marks" | "followers" | "buyers" | "staff"
  | "unknown" | "not_yet" | "over" | "other_sale" | "other_products" | "below_minimum" | "nothing_off"
  | "guests" | "no_session" | (string & {});

export interface ChannelEvents {
  "snapshot": Snapshot;
  "state": { state: Channel["state"]; reason: Channel["reason"]; error: HaulError | null };
  /** Every event of the server; `offset` is there on those in the live's order. */
  "event": { type: string; epoch: string; offset?: number };
  "chat.message": ChatLine;
  "chat.deleted": { message_ids: string[] };
  "chat.pinned": { message: ChatLine | null };
  "chat.rules": { rules: ChatRules };
  "chat.standing": { standing: Standing | null };
  "chat.measure": { entry: LogEntry };
  "chat.sampled": { messages: number };
  "live.changed": { live: LiveView };
  "products.changed": { products: Product[] };
  "pin.changed": { pin: Pin | null };
  "sale.changed": { sale: Sale };
  "coupon.changed": { coupon: Coupon | null };
  "stock.changed": { sale_id: string; available: number; held: number; sold: number; lines?: StockView[] };
  "viewers.changed": { viewers: number; peak: number };
  "viewers.joined": { names: string[]; others: number };
  "likes": { total: number; new: Partial<Record<Reaction, number>> };
  "question.changed": { question: Question };
  "question.removed": { question_id: string };
  "question.votes": { question_id: string; votes: number };
  "question.yours": { question: Question };
  "announcement.changed": { announcement: Announcement | null };
  "poll.changed": { poll: Poll | null };
  "poll.votes": { poll_id: string; votes: number[] };
  "giveaway.changed": { giveaway: Giveaway | null };
  "giveaway.entries": { giveaway_id: string; entries: number };
  "giveaway.won": { giveaway: Giveaway };
  "giveaway.winners": { giveaway_id: string; winners: Winner[] };
  "thread.message": { user_id: string; user_name: string; message: ThreadMessage };
  "hold.changed": { hold: Hold };
  "order.changed": { order: Order };
  "host.order": { order: Order; totals: Totals };
  "host.warning": { warning: "b_frames" | "aac" };
  "quality.changed": { quality: QualityView };
  "draining": { retry_after_ms: number };
}

export class Channel extends EventTarget {
  constructor(options: {
    live: string;
    token?: string | null;
    base?: string;
    ref?: string | null;
    /** In which language products are told, a BCP 47 tag; the browser's where absent, each product's own where null. */
    locale?: string | null;
  });
  readonly live: string;
  readonly state: "idle" | "connecting" | "open" | "waiting" | "closed";
  readonly reason: "unauthorized" | "forbidden" | "banned" | "left" | null;
  readonly snapshot: Snapshot | null;
  readonly rttMs: number | null;
  connect(): Promise<Snapshot>;
  close(): void;
  setToken(token: string | null): void;
  retryNow(): void;
  request<T extends keyof Requests>(
    type: T,
    fields?: Requests[T]["fields"],
    options?: { timeoutMs?: number },
  ): Promise<Requests[T]["result"]>;
  /** Sends a message that has no reply. */
  tell(type: string, fields?: object): void;
  serverNow(): number;
  addEventListener<T extends keyof ChannelEvents>(
    type: T,
    listener: (event: CustomEvent<ChannelEvents[T]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
}

export interface PublishOptions {
  live: string;
  token: string;
  base?: string;
  /** bit/s, 2.5 Mb/s by default. */
  maxBitrate?: number;
  /** bit/s to start with, 1 Mb/s by default. */
  startBitrate?: number;
  maxFramerate?: number;
  audioBitrate?: number;
  contentHint?: "" | "motion" | "detail" | "text";
  codec?: "H264" | "VP8";
  /** Simulcast layers at most: sizes of the picture sent at once. 3 by default, fewer of a small picture; 1 turns simulcast off. */
  layers?: 1 | 2 | 3;
}
export interface Facts {
  codec: string | null;
  width: number | null;
  height: number | null;
  fps: number | null;
  bitrateBps: number | null;
  rttMs: number | null;
  lossRatio: number | null;
  limitedBy: string | null;
}
export function publish(stream: MediaStream, options: PublishOptions): Promise<Publication>;
export class Publication extends EventTarget {
  constructor(stream: MediaStream, options: PublishOptions);
  readonly pc: RTCPeerConnection | null;
  readonly state: "idle" | "connecting" | "live" | "reconnecting" | "ended" | "refused";
  start(): Promise<void>;
  setStream(stream: MediaStream): Promise<void>;
  facts(): Promise<Facts | null>;
  stop(): void;
}

export interface WatchOptions { live: string; video: HTMLVideoElement; token?: string | null; base?: string }
export function watch(options: WatchOptions): Player;
export class Player extends EventTarget {
  constructor(options: WatchOptions);
  readonly pc: RTCPeerConnection | null;
  readonly state: "idle" | "connecting" | "waiting" | "playing" | "away" | "reconnecting" | "busy" | "unsupported" | "refused" | "ended";
  /** The media session's id at the server. */
  readonly sessionId: string | null;
  soundOnly: boolean;
  start(): void;
  hurry(): void;
  rejoin(): void;
  setToken(token: string | null): void;
  stop(): void;
}

export type Transport = "webrtc" | "moq";
/** Tries WebRTC first, or what `transport` says, and the other where that fails, in the middle as well. */
export function play(options: WatchOptions & { transport?: Transport }): LivePlayer;
/** A `Player` whose way may change. Event `transport`: another way is taken. */
export class LivePlayer extends EventTarget {
  constructor(options: WatchOptions & { transport?: Transport });
  /** What plays, or is being tried. */
  readonly transport: Transport;
  /** Null over MoQ. */
  readonly pc: RTCPeerConnection | null;
  readonly state: Player["state"];
  readonly sessionId: string | null;
  soundOnly: boolean;
  start(): void;
  hurry(): void;
  rejoin(): void;
  setToken(token: string | null): void;
  stop(): void;
  /** Takes this way now, and the other where it fails. Returns whether it is tried. */
  prefer(transport: Transport): boolean;
  /** Takes a rendition by its name, or "auto". False over WebRTC, where the server decides: see `Quality`. */
  choose(choice: string): boolean;
  /** What plays over MoQ; null over WebRTC. */
  facts(): MoqFacts | null;
}
export interface MoqFacts {
  /** What the session travels on; null between sessions. */
  carrier: "quic" | "websocket" | null;
  codec: string | null;
  width: number;
  height: number;
  /** Pictures drawn, decoded too late, and groups given up. */
  shown: number;
  dropped: number;
  lost: number;
  /** Packets of sound played, and the loudness of now, from 0 to 1. */
  heard: number;
  level: number;
  /** How long frames wait for those that come late. */
  delayMs: number | null;
  /** How far the picture is behind the sound; null without one of them. */
  apartMs: number | null;
}

/** Follows what the server sends of the pictures, and asks for another layer. Event: `change`. */
export class Quality extends EventTarget {
  constructor(channel: Channel, player: Player | LivePlayer);
  readonly choice: string;
  readonly current: QualityView | null;
  /** A layer's name, or "auto". */
  choose(choice: string): Promise<void>;
}

/** A fresh idempotency key. */
export function newKey(): string;
export function hold(
  channel: Channel,
  attempt: { saleId: string; quantity?: number; lines?: LineUnits[]; coupon?: string; key?: string; patienceMs?: number },
): Promise<Hold>;
/** Waits in line, in a sale with `offer_ms`. The same key asks for the position again. */
export function wait(
  channel: Channel,
  attempt: { saleId: string; line?: number; quantity?: number; key?: string; patienceMs?: number },
): Promise<Hold>;
/** Says that a product was tapped. */
export function click(channel: Channel, productId: string, options?: { ref?: string }): Promise<void>;
export function checkout(
  channel: Channel,
  held: { saleId: string; holdId: string; coupon?: string; ref?: string; contact?: Contact; patienceMs?: number },
): Promise<{ order: Order; hold: Hold; pay_url: string; server_time: number }>;
export function cancel(channel: Channel, held: { saleId: string; holdId: string; patienceMs?: number }): Promise<Hold>;

/** Says something to everybody, once however often it is repeated. Resolves with the message's id. */
export function say(
  channel: Channel,
  text: string,
  options?: { replyTo?: string; clientId?: string; patienceMs?: number },
): Promise<string>;
/** As `say`, with all of the reply: no `message_id` where it came too soon to be heard, a `ticket` where it entered a giveaway. */
export function send(
  channel: Channel,
  text: string,
  options?: { replyTo?: string; clientId?: string; patienceMs?: number },
): Promise<{ message_id?: string; ticket?: string }>;
/** Asks the host something, once however often it is repeated. Resolves with the question's id. */
export function ask(
  channel: Channel,
  text: string,
  options?: { productId?: string; clientId?: string; patienceMs?: number },
): Promise<string>;
/** Writes to the host's team, or from the team to `userId`, once however often it is repeated. Resolves with the message's id. */
export function write(
  channel: Channel,
  text: string,
  options?: { userId?: string; clientId?: string; patienceMs?: number },
): Promise<string>;
/** Many taps are sent as one message. */
export function like(channel: Channel, kind?: Reaction): void;
/** For host and moderators. Without `durationMs` it holds until it is lifted. */
export function moderate(
  channel: Channel,
  what: { action: Measure; messageId?: string; userId?: string; durationMs?: number; reason?: string },
): Promise<unknown>;

export function rest(
  path: string,
  options?: { method?: string; token?: string | null; body?: unknown; headers?: Record<string, string>; base?: string },
): Promise<any>;

/** A time in milliseconds since 1970 as RFC 3339. */
export function timeText(ms: number): string;

/** Digits of a currency's minor unit. */
export function exponent(currency: string): number;
export function formatMoney(money: Money, locale?: string): string;
/** Minor units of a typed amount, or null. */
export function parseAmount(text: string, currency: string): number | null;
export function plainAmount(money: Money): string;
