//! `/v1`: lives, products, sales, orders and tokens.

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State,
        rejection::JsonRejection,
    },
    http::{HeaderMap, StatusCode, request::Parts},
    routing::{get, post, put},
};
use haul_commerce::{
    LiveRecord, Product, check_price,
    keys::{Area, Permission},
    orders::OrderFilter,
};
use haul_live::{Live, LiveError, Look, MAX_BAG};
use haul_model::{BuyerId, Currency, LiveId, Money, OrderId, ProductId, Role, UnixMillis};
use haul_wire::{
    LiveState, OrderView, ProductView, SaleView, Totals,
    text::{NO_NUL, has_nul},
};
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    app::{App, path_id, unavailable},
    auth::{AuthError, Claims, Shop, bearer},
    problem::Problem,
    v1::{Page, Secret, next, place},
};

/// The largest JSON body read.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The longest title and subtitle, in characters, and picture URL, in bytes.
const MAX_TITLE_CHARS: usize = 120;
const MAX_URL_BYTES: usize = 512;
/// How long a token may live, and does where nothing else is asked for.
const MAX_TOKEN_SECONDS: u64 = 30 * 86_400;
pub(crate) const TOKEN_SECONDS: u64 = 12 * 3600;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/lives/{live}", get(live).put(put_live))
        .route("/v1/lives/{live}/products/{product}", put(put_product).delete(remove_product))
        .route("/v1/lives/{live}/sales", get(sales))
        .route("/v1/lives/{live}/orders", get(orders))
        .route("/v1/lives/{live}/tokens", post(mint))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// A JSON body whose errors are problem documents.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let read = Bytes::from_request(Request::from_parts(parts.clone(), body), state).await;
        let json =
            read.map_err(|rejection| Problem::new(rejection.status(), "too_large", rejection.body_text()))?;
        if has_nul(&json) {
            return Err(bad_request(NO_NUL));
        }
        match Json::<T>::from_request(Request::from_parts(parts, json.into()), state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => {
                let code = match &rejection {
                    JsonRejection::MissingJsonContentType(_) => "unsupported_media_type",
                    _ => "bad_request",
                };
                Err(Problem::new(rejection.status(), code, rejection.body_text()))
            }
        }
    }
}

/// What a query says, whose errors are problem documents.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(bad_request(NO_NUL));
        }
        let Query(params) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| bad_request(rejection.body_text()))?;
        Ok(Self(params))
    }
}

/// A live, as a watch page or a merchant's backend sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LiveDocument {
    id: LiveId,
    title: String,
    /// Whether it may be watched without a token.
    public: bool,
    state: LiveState,
    viewers: u64,
    /// Whether `POST …/guests` gives a viewer's token for the asking.
    guests: bool,
}

/// What a host says of their live.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutLive {
    /// At most 120 characters.
    title: String,
    public: bool,
}

/// A product to be created or changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutProduct {
    /// At most 120 characters.
    title: String,
    /// At most 120 characters.
    #[serde(default)]
    subtitle: String,
    /// An https URL, or a path on this server. At most 512 bytes.
    #[serde(default)]
    image_url: String,
    /// In the currency's minor unit.
    price_minor: i64,
    currency: Currency,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Sales {
    sales: Vec<SaleView>,
}

/// Orders of a live, for its host.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Orders {
    /// Newest first.
    orders: Vec<OrderView>,
    /// For `?after=`; null on the last page.
    next: Option<String>,
    totals: Totals,
}

/// A token to be minted.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Mint {
    /// Who it is for; made up where absent.
    sub: Option<BuyerId>,
    /// `viewer` or `moderator`; with an API key, `host` too.
    role: Role,
    /// The name shown to others.
    #[serde(default)]
    name: String,
    /// What the shop says of them in the chat.
    #[serde(flatten)]
    shop: Shop,
    /// 12 hours where absent, 30 days at most.
    ttl_seconds: Option<u64>,
}

/// A token, and when it ends.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) sub: BuyerId,
    pub(crate) expires_at: UnixMillis,
}

async fn live(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
) -> Result<Json<LiveDocument>, Problem> {
    let (live, _) = app.watched(&headers, &path_id("live", &live)?, Area::Lives.read()).await?;
    let looked = look(&live).await?;
    Ok(Json(document(&app, &live, looked)))
}

async fn put_live(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
    Body(put): Body<PutLive>,
) -> Result<Json<LiveDocument>, Problem> {
    let title = title("title", &put.title)?;
    let live = hosted(&app, &live, &headers, Area::Lives.write()).await?;
    let ledger = &app.lives.services().ledger;
    let record = ledger.live(live.id()).await?.ok_or_else(not_found)?;
    let record = ledger.put_live(&LiveRecord { title, public: put.public, ..record }).await?;
    live.record_changed(record.clone());
    if !record.public {
        // By itself, so that a host who hangs up does not leave some of them watching.
        let (app, strangers) = (app.clone(), app.sessions.strangers(live.id()));
        tokio::spawn(async move {
            for session in strangers {
                app.edge.close(&session).await;
            }
        });
    }
    let looked = look(&live).await?;
    Ok(Json(document(&app, &live, Look { title: record.title, ..looked })))
}

async fn put_product(
    State(app): State<App>,
    Path((live, product)): Path<(String, String)>,
    headers: HeaderMap,
    Body(put): Body<PutProduct>,
) -> Result<Json<ProductView>, Problem> {
    let list_price = Money { amount_minor: put.price_minor, currency: put.currency };
    check_price("price_minor", list_price).map_err(|error| bad_request(error.to_string()))?;
    let product = ProductFields {
        id: path_id("product", &product)?,
        title: title("title", &put.title)?,
        subtitle: short("subtitle", &put.subtitle)?,
        image_url: image_url(&put.image_url)?,
    };
    let live = hosted(&app, &live, &headers, Area::Products.write()).await?;
    let ledger = &app.lives.services().ledger;
    let ProductFields { id, title, subtitle, image_url } = product;
    let product = Product { id, merchant: live.merchant().clone(), title, subtitle, image_url, list_price };
    let bag = ledger.bag(live.id()).await?;
    if bag.len() >= MAX_BAG && !bag.iter().any(|known| known.id == product.id) {
        return Err(bad_request(format!("a bag may have at most {MAX_BAG} products")));
    }
    ledger.put_product(&product).await?;
    ledger.add_to_bag(live.id(), &product.id).await?;
    live.bag_changed(app.storefront.listed_in(live.id()).await?);
    Ok(Json(haul_live::product_view(&product)))
}

async fn remove_product(
    State(app): State<App>,
    Path((live, product)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let product: ProductId = path_id("product", &product)?;
    let live = hosted(&app, &live, &headers, Area::Products.write()).await?;
    let ledger = &app.lives.services().ledger;
    ledger.remove_from_bag(live.id(), &product).await?;
    live.bag_changed(app.storefront.listed_in(live.id()).await?);
    Ok(StatusCode::NO_CONTENT)
}

async fn sales(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Sales>, Problem> {
    let (live, _) = app.watched(&headers, &path_id("live", &live)?, Area::Sales.read()).await?;
    Ok(Json(Sales { sales: look(&live).await?.sales }))
}

async fn orders(
    State(app): State<App>,
    Path(live): Path<String>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<Orders>, Problem> {
    let live = path_id("live", &live)?;
    let (live, _) = app.in_live(&headers, &live, Role::Moderator, Area::Orders.read()).await?;
    let limit = page.limit()?;
    let of_live =
        OrderFilter { live: Some(live.id().clone()), after: page.place::<OrderId>()?, ..Default::default() };
    let orders = app.backoffice.list_orders(live.merchant(), &of_live, limit).await?;
    let totals = app.lives.services().ledger.totals(live.id()).await?;
    Ok(Json(Orders {
        next: next(&orders, limit, |order| place(order.order.created_at, &order.order.id)),
        orders: orders.iter().map(haul_live::order_view).collect(),
        totals: Totals { orders: totals.orders, units: totals.units, revenue: totals.revenue },
    }))
}

async fn mint(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
    Body(mint): Body<Mint>,
) -> Result<(StatusCode, Extension<Secret>, Json<Token>), Problem> {
    let live: LiveId = path_id("live", &live)?;
    let now = haul_live::now().wall;
    let key = app.api_key(&headers).await?;
    let merchant = match &key {
        Some(key) => {
            crate::v1::permits(key, Area::Tokens.write())?;
            key.merchant.clone()
        }
        None => app.authority.require(bearer(&headers), &live, Role::Host, now)?.merchant,
    };
    match app.lives.get(&live).await {
        Ok(known) if *known.merchant() != merchant => return Err(AuthError::WrongLive.into()),
        Ok(_) => {}
        // Tokens may be given out before the live begins.
        Err(LiveError::Unknown) => {}
        Err(error) => return Err(error.into()),
    }
    // A host's token makes none of its like; the merchant's backend may.
    if mint.role.includes(Role::Host) && key.is_none() {
        return Err(bad_request("role: expected viewer or moderator"));
    }
    let seconds = mint.ttl_seconds.unwrap_or(TOKEN_SECONDS);
    if !(1..=MAX_TOKEN_SECONDS).contains(&seconds) {
        return Err(bad_request(format!("ttl_seconds: expected 1 to {MAX_TOKEN_SECONDS}")));
    }
    let sub = mint.sub.unwrap_or_else(|| BuyerId::generate("viewer-", now, rand::rng().random()));
    let ttl = Duration::from_secs(seconds);
    let exp = now + ttl;
    let claims = Claims {
        sub: sub.clone(),
        live: (&live).into(),
        role: mint.role,
        name: mint.name,
        shop: mint.shop,
        exp,
    };
    let token = app.authority.mint_for(&merchant, claims, now);
    Ok((StatusCode::CREATED, Extension(Secret), Json(Token { token, sub, expires_at: exp })))
}

/// The live for its host; created if nobody did before.
async fn hosted(app: &App, live: &str, headers: &HeaderMap, needed: Permission) -> Result<Live, Problem> {
    let live: LiveId = path_id("live", live)?;
    if let Some(key) = app.api_key(headers).await? {
        crate::v1::permits(&key, needed)?;
        return Ok(app.lives.ensure(&live, &key.merchant).await?);
    }
    let host = app.authority.require(bearer(headers), &live, Role::Host, haul_live::now().wall)?;
    let live = app.lives.ensure(&live, &host.merchant).await?;
    crate::app::same_merchant(&live, &host).map_err(|_: AuthError| AuthError::WrongLive)?;
    Ok(live)
}

async fn look(live: &Live) -> Result<Look, Problem> {
    live.look().await.ok_or_else(|| unavailable("the live is restarting"))
}

fn document(app: &App, live: &Live, look: Look) -> LiveDocument {
    LiveDocument {
        id: live.id().clone(),
        title: look.title,
        public: live.is_public(),
        state: look.state,
        viewers: look.viewers,
        guests: app.settings.demo.as_ref() == Some(live.id()),
    }
}

struct ProductFields {
    id: ProductId,
    title: String,
    subtitle: String,
    image_url: String,
}

pub(crate) fn title(field: &str, text: &str) -> Result<String, Problem> {
    let text = short(field, text)?;
    if text.is_empty() { Err(bad_request(format!("{field}: expected some text"))) } else { Ok(text) }
}

fn short(field: &str, text: &str) -> Result<String, Problem> {
    let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    if text.chars().count() > MAX_TITLE_CHARS {
        return Err(bad_request(format!("{field}: expected at most {MAX_TITLE_CHARS} characters")));
    }
    Ok(text)
}

/// Pages put it into `<img src>`: nothing else than a picture's address may come through.
fn image_url(url: &str) -> Result<String, Problem> {
    let url = url.trim();
    let is_path = url.starts_with('/') && !url.starts_with("//");
    let is_good = url.is_empty() || is_path || url.starts_with("https://");
    if url.len() > MAX_URL_BYTES {
        return Err(bad_request(format!("image_url: expected at most {MAX_URL_BYTES} bytes")));
    }
    if !is_good || url.chars().any(|c| c.is_control() || c == '\\') {
        return Err(bad_request("image_url: expected an https URL or a path on this server"));
    }
    Ok(url.to_owned())
}

pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
}

pub(crate) fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
}

#[cfg(test)]
mod tests {
    use haul_live::MAX_SALES;

    use super::*;
    use crate::auth::{MAX_NAME_CHARS, MAX_TIER_CHARS};
    use haul_wire::{
        chat::MAX_REASON_CHARS,
        crowd::{RoomView, ThreadLine, ThreadMessage},
        questions::{Question, QuestionState},
        show::{Announcement, Drawn, Giveaway, Poll, Winner, WinnerView, Won},
    };

    /// A text as large as people may make it, in bytes as they are sent.
    fn wide(chars: usize) -> String {
        "\u{1F375}".repeat(chars)
    }

    /// An id as long as may be.
    fn long<T: std::str::FromStr<Err: std::fmt::Debug>>() -> T {
        "i".repeat(haul_model::id::MAX_ID_BYTES).parse().unwrap()
    }

    #[test]
    fn the_largest_snapshot_can_be_told_to_a_newcomer() {
        use haul_wire::*;
        const LATE: UnixMillis = UnixMillis(u64::MAX);
        let money = || Money { amount_minor: i64::MAX, currency: "EUR".parse().unwrap() };
        let product = ProductView {
            id: long(),
            title: wide(MAX_TITLE_CHARS),
            subtitle: wide(MAX_TITLE_CHARS),
            image_url: "x".repeat(MAX_URL_BYTES),
            list_price: money(),
        };
        let sale = SaleView {
            id: long(),
            product_id: long(),
            variant_id: Some(long()),
            price: money(),
            state: SaleState::Scheduled,
            opens_at: LATE,
            closes_at: LATE,
            per_buyer: u32::MAX,
            hold_ms: u64::MAX,
            stock: u32::MAX,
            available: u32::MAX,
            held: u32::MAX,
            sold: u32::MAX,
            offer_ms: Some(u64::MAX),
            draw: Some(DrawView { draws_at: LATE, commitment: "c".repeat(64), seed: Some("s".repeat(64)) }),
            mode: SaleMode::FirstPaid,
            early: vec![EarlyView { tier: long(), opens_at: LATE }; haul_commerce::sale::MAX_TIERS],
            // The lines of all sales on stage are bounded together.
            lines: Vec::new(),
        };
        let sale_line = SaleLineView {
            product_id: long(),
            variant_id: Some(long()),
            price: money(),
            per_buyer: u32::MAX,
            stock: u32::MAX,
            units: StockView { available: u32::MAX, held: u32::MAX, sold: u32::MAX },
        };
        let units = vec![LineUnits { line: u8::MAX, quantity: u32::MAX }; haul_live::MAX_HOLD_LINES];
        let line = ChatLine {
            id: long(),
            name: wide(MAX_NAME_CHARS),
            role: Role::Moderator,
            badges: vec![Badge::Follower, Badge::VerifiedBuyer, Badge::RepeatBuyer],
            tier: Some(wide(MAX_TIER_CHARS)),
            text: wide(MAX_CHAT_CHARS),
            reply_to: Some(Quote { id: long(), name: wide(MAX_NAME_CHARS), text: wide(80) }),
            at: LATE,
        };
        let question = Question {
            id: long(),
            name: wide(MAX_NAME_CHARS),
            text: wide(MAX_CHAT_CHARS),
            product_id: Some(long()),
            votes: u32::MAX,
            state: QuestionState::Answered,
            at: LATE,
            media_ms: Some(u64::MAX),
            answer: Some(wide(MAX_CHAT_CHARS)),
        };
        let message = ThreadMessage {
            id: long(),
            name: wide(MAX_NAME_CHARS),
            from_team: false,
            text: wide(MAX_CHAT_CHARS),
            at: LATE,
        };
        let winner = WinnerView { name: wide(MAX_NAME_CHARS), ticket: "t".repeat(16) };
        let winners = *haul_room::giveaway::WINNERS.end() as usize;
        let giveaway = Giveaway {
            id: long(),
            title: wide(120),
            word: Some(wide(30)),
            winners_wanted: u32::MAX,
            open: false,
            closes_at: LATE,
            entries: u32::MAX,
            commitment: "c".repeat(64),
            seed: Some("s".repeat(64)),
            winners: Vec::new(),
            claim_until: Some(LATE),
        };
        let room = RoomView {
            questions: vec![question.clone(); haul_room::questions::MAX_SHOWN],
            yours: vec![question; haul_room::questions::MAX_YOURS],
            announcement: Some(Announcement { text: wide(200), at: LATE }),
            poll: Some(Poll {
                id: long(),
                question: wide(120),
                options: vec![wide(60); 6],
                votes: vec![u32::MAX; 6],
                open: false,
                closes_at: LATE,
            }),
            giveaway: Some(Giveaway { winners: vec![winner; winners], ..giveaway.clone() }),
            ticket: Some("t".repeat(16)),
            won: vec![
                Won { giveaway: giveaway.clone(), claimed: false };
                haul_room::giveaway::MAX_DRAWN_BEFORE + 1
            ],
            likes: u64::MAX,
            peak: u64::MAX,
            thread: vec![message.clone(); haul_room::crowd::MAX_THREAD_SHOWN],
        };
        let thread = ThreadLine { user_id: long(), user_name: wide(MAX_NAME_CHARS), last: message };
        let winner =
            Winner { user_id: long(), name: wide(MAX_NAME_CHARS), ticket: "t".repeat(16), claimed: false };
        let standing =
            Standing { measure: Measure::ShadowBan, until: Some(LATE), reason: Some(wide(MAX_REASON_CHARS)) };
        let code: haul_model::CouponCode =
            "X".repeat(*haul_commerce::coupon::CODE_CHARS.end()).parse().unwrap();
        let coupon = coupon::CouponView {
            code: code.clone(),
            amount: Some(money()),
            percent: Some(100),
            minimum: Some(money()),
            sale_id: Some(long()),
            product_ids: vec![long(); haul_commerce::coupon::MAX_COUPON_PRODUCTS],
            limit: u32::MAX,
            per_buyer: u32::MAX,
            valid_from: LATE,
            valid_until: LATE,
            closed: false,
        };
        let hold = HoldView {
            id: long(),
            sale_id: long(),
            quantity: u32::MAX,
            lines: units,
            state: HoldState::Captured,
            deadline: Some(LATE),
            position: Some(u32::MAX),
            coupon: Some(code.clone()),
        };
        let order_line = OrderLineView {
            line: u8::MAX,
            product_id: long(),
            variant_id: Some(long()),
            quantity: u32::MAX,
            unit_price: money(),
            total: money(),
        };
        let order = OrderView {
            id: long(),
            hold_id: long(),
            sale_id: long(),
            product_id: long(),
            buyer_name: wide(MAX_NAME_CHARS),
            quantity: u32::MAX,
            returned: u32::MAX,
            lines: vec![order_line; haul_live::MAX_HOLD_LINES],
            total: money(),
            coupon: Some(coupon::CouponOff { code, amount: money() }),
            state: OrderStateView::PartlyRefunded,
            refunded: money(),
            disputed: true,
            created_at: LATE,
        };
        // A buyer sees 20 orders of their own, and a hold in each sale.
        let you = You {
            name: wide(MAX_NAME_CHARS),
            role: Role::Moderator,
            holds: vec![hold; MAX_SALES],
            orders: vec![order.clone(); 20],
            standing: Some(standing),
        };
        let mut sales = vec![sale; MAX_SALES];
        sales[0].lines = vec![sale_line; haul_live::MAX_LINES_ON_STAGE];
        let totals = Totals { orders: u64::MAX, units: u64::MAX, revenue: vec![money(); 10] };
        let snapshot = Snapshot {
            session: "s".repeat(haul_model::id::MAX_ID_BYTES),
            server_time: LATE,
            epoch: "e".repeat(haul_model::id::MAX_ID_BYTES),
            offset: u64::MAX,
            resumed: Some(Resumed { recovered: false }),
            you: Some(you),
            live: LiveView {
                title: wide(MAX_TITLE_CHARS),
                state: LiveState::Waiting,
                sound: Some(LiveSound::MoqOnly),
            },
            products: vec![product; MAX_BAG],
            pin: Some(Pin { product_id: long(), since: LATE, media_ms: Some(u64::MAX) }),
            sales,
            coupon: Some(coupon),
            contact: haul_model::ContactNeed::Address,
            viewers: u64::MAX,
            chat: vec![line.clone(); haul_room::MAX_CHAT_SHOWN],
            chat_pin: Some(line),
            chat_rules: ChatRules::default(),
            room,
            host: Some(HostView {
                totals,
                orders: vec![order; haul_live::MAX_ORDERS_SHOWN],
                threads: vec![thread; haul_room::crowd::MAX_THREADS_SHOWN],
                drawn: vec![
                    Drawn { giveaway, winners: vec![winner.clone()] };
                    haul_room::giveaway::MAX_DRAWN_BEFORE
                ],
                winners: vec![winner; winners + haul_room::giveaway::MAX_WINNERS_SHOWN],
            }),
        };
        let bytes = encode_reply(u64::MAX, &Reply::Hello(Box::new(snapshot))).len();
        assert!(bytes <= haul_room::outbox::MAX_BYTES, "{bytes}");
        // Had it grown so small that this proves nothing, the limit could come down.
        assert!(bytes > haul_room::outbox::MAX_BYTES / 2, "{bytes}");
    }

    #[test]
    fn a_picture_is_a_picture_and_not_a_script() {
        for good in ["", "/assets/demo/tea.svg", "https://cdn.example/tea.jpg"] {
            assert!(image_url(good).is_ok(), "{good}");
        }
        for bad in
            ["javascript:alert(1)", "//evil.example/x", "http://plain.example/x", "data:text/html,x", "/a\\b"]
        {
            assert!(image_url(bad).is_err(), "{bad}");
        }
        let of_bytes = |bytes: usize| image_url(&format!("/{}", "a".repeat(bytes - 1)));
        assert!(of_bytes(MAX_URL_BYTES).is_ok());
        assert!(of_bytes(MAX_URL_BYTES + 1).is_err());
    }
}
