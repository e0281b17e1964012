// Types of Haul's client module.

export const SUBPROTOCOL: "haul.v1";

export interface Money { amount_minor: number; currency: string }
export type Role = "viewer" | "moderator" | "host";
export interface LiveView { title: string; state: "waiting" | "live" | "reconnecting" }
export interface Product { id: string; title: string; subtitle: string; image_url: string; list_price: Money }
export interface Pin { product_id: string; since: number }
export interface Sale {
  id: string;
  product_id: string;
  price: Money;
  state: "scheduled" | "open" | "frozen" | "closed";
  opens_at: number;
  closes_at: number;
  per_buyer: number;
  hold_ms: number;
  stock: number;
  available: number;
  held: number;
  sold: number;
}
export interface ChatLine { id: string; name: string; role: Role; text: string; at: number }
export interface Hold {
  id: string;
  sale_id: string;
  quantity: number;
  state: "held" | "paying" | "captured" | "sold" | "released";
  deadline: number | null;
}
export interface Order {
  id: string;
  hold_id: string;
  sale_id: string;
  product_id: string;
  buyer_name: string;
  quantity: number;
  total: Money;
  state: "paying" | "sold" | "expired" | "refund_due" | "refunded";
  created_at: number;
}
export interface Totals { orders: number; units: number; revenue: Money[] }
export interface Snapshot {
  session: string;
  server_time: number;
  epoch: string;
  offset: number;
  resumed: { recovered: boolean } | null;
  you: { name: string; role: Role; holds: Hold[]; orders: Order[] } | null;
  live: LiveView;
  products: Product[];
  pin: Pin | null;
  sales: Sale[];
  viewers: number;
  chat: ChatLine[];
  host: { totals: Totals; orders: Order[] } | null;
}

/** What a viewer is sent of the pictures. */
export interface QualityView {
  session: string;
  /** Some: those that would come late are left out. None: sound alone, because no layer fits. */
  pictures: "all" | "some" | "none";
  layer: string | null;
  /** A layer's name, or "auto". */
  choice: string;
  reason: "best" | "asked" | "network";
  /** The largest first. */
  layers: { name: string; bitrate_bps: number }[];
}

/** Codes of the server, and the client's own. */
export type Code =
  | "bad_request" | "unknown_type" | "unauthorized" | "forbidden" | "not_found" | "rate_limited" | "sale_not_open"
  | "sale_closed" | "sold_out" | "not_enough" | "buyer_limit" | "key_reused" | "unknown_hold" | "hold_over"
  | "wrong_state" | "pending" | "unavailable" | "internal"
  | "disconnected" | "timeout" | "network" | "aborted" | (string & {});

export class HaulError extends Error {
  readonly code: Code;
  readonly retryAfterMs?: number;
  readonly status?: number;
}

export interface ChannelEvents {
  "snapshot": Snapshot;
  "state": { state: Channel["state"]; reason: Channel["reason"] };
  /** Every event of the server; `offset` is there on those in the live's order. */
  "event": { type: string; epoch: string; offset?: number };
  "chat.message": ChatLine;
  "live.changed": { live: LiveView };
  "products.changed": { products: Product[] };
  "pin.changed": { pin: Pin | null };
  "sale.changed": { sale: Sale };
  "stock.changed": { sale_id: string; available: number; held: number; sold: number };
  "viewers.changed": { viewers: number };
  "hold.changed": { hold: Hold };
  "order.changed": { order: Order };
  "host.order": { order: Order; totals: Totals };
  "host.warning": { warning: "b_frames" };
  "quality.changed": { quality: QualityView };
  "draining": { retry_after_ms: number };
}

export class Channel extends EventTarget {
  constructor(options: { live: string; token?: string | null; base?: string });
  readonly live: string;
  readonly state: "idle" | "connecting" | "open" | "waiting" | "closed";
  readonly reason: "unauthorized" | "forbidden" | "left" | null;
  readonly snapshot: Snapshot | null;
  readonly rttMs: number | null;
  connect(): Promise<Snapshot>;
  close(): void;
  setToken(token: string | null): void;
  retryNow(): void;
  request(type: string, fields?: object, options?: { timeoutMs?: number }): Promise<any>;
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

/** Follows what the server sends of the pictures, and asks for another layer. Event: `change`. */
export class Quality extends EventTarget {
  constructor(channel: Channel, player: Player);
  readonly choice: string;
  readonly current: QualityView | null;
  /** A layer's name, or "auto". */
  choose(choice: string): Promise<void>;
}

/** A fresh idempotency key. */
export function newKey(): string;
export function hold(
  channel: Channel,
  attempt: { saleId: string; quantity?: number; key?: string; patienceMs?: number },
): Promise<Hold>;
export function checkout(
  channel: Channel,
  held: { saleId: string; holdId: string; patienceMs?: number },
): Promise<{ order: Order; hold: Hold; pay_url: string; server_time: number }>;
export function cancel(channel: Channel, held: { saleId: string; holdId: string; patienceMs?: number }): Promise<Hold>;

export function rest(
  path: string,
  options?: { method?: string; token?: string | null; body?: unknown; base?: string },
): Promise<any>;

/** Digits of a currency's minor unit. */
export function exponent(currency: string): number;
export function formatMoney(money: Money, locale?: string): string;
/** Minor units of a typed amount, or null. */
export function parseAmount(text: string, currency: string): number | null;
export function plainAmount(money: Money): string;
