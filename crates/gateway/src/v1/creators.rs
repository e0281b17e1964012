//! Creators, their links, and what orders came to for whom.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use haul_commerce::{
    attribution::{Creator, CreatorKind, CreatorPut, TouchKind, is_code},
    followup::{self, FollowupRule},
    keys::Area,
    split::{Split, WHOLE_BPS},
};
use haul_model::{AgencyId, BuyerId, CreatorId, LiveId, MerchantId, Money, OrderId, UnixMillis};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Page, missing, next};
use crate::{
    app::{App, path_id},
    auth::clean_name,
    openapi::{Operation, Who, json, refused_with},
    problem::Problem,
    rest::{Body, Params, bad_request},
    shop::REF,
};

/// How long a signed `ref` counts, in seconds: where nothing else is asked for, and at most.
const LINK_SECONDS: u64 = 30 * 86_400;
const MAX_LINK_SECONDS: u64 = 366 * 86_400;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/creators", get(list))
        .route("/v1/creators/{creator}", get(one).put(put_creator))
        .route("/v1/creators/{creator}/links", post(link))
        .route("/v1/orders/{order}/split", get(split))
        .route("/v1/products/{product}/followups", get(followups).put(put_followups))
        .route("/v1/notices", get(notices))
}

pub(crate) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let refusals: &'static [&'static str] = &["400", "401", "403", "404", "409", "503"];
    let made = refused_with(refusals);
    let op = |method, path, summary, body, answer| made(method, path, Who::Merchant, summary, body, answer);
    vec![
        op(
            "get",
            "/v1/creators",
            "Creators by id (scope marketing:read)",
            None,
            ("200", json::<CreatorDocuments>(generator)),
        )
        .query::<Page>(generator),
        op(
            "get",
            "/v1/creators/{creator}",
            "A creator (scope marketing:read)",
            None,
            ("200", json::<CreatorDocument>(generator)),
        ),
        op(
            "put",
            "/v1/creators/{creator}",
            "Create or change a creator (scope marketing:write)",
            json::<PutCreator>(generator),
            ("200", json::<CreatorDocument>(generator)),
        ),
        op(
            "post",
            "/v1/creators/{creator}/links",
            "A link to a live under the creator's name, signed (scope marketing:write)",
            json::<MakeLink>(generator),
            ("201", json::<Link>(generator)),
        ),
        op(
            "get",
            "/v1/orders/{order}/split",
            "Whose doing a sold order was, and how its money is divided (scope orders:read)",
            None,
            ("200", json::<SplitDocument>(generator)),
        ),
        op(
            "get",
            "/v1/products/{product}/followups",
            "What a product's orders are followed up by (scope products:read)",
            None,
            ("200", json::<Followups>(generator)),
        ),
        op(
            "put",
            "/v1/products/{product}/followups",
            "Set what a product's orders are followed up by, from now on (scope products:write)",
            json::<Followups>(generator),
            ("200", json::<Followups>(generator)),
        ),
        op(
            "get",
            "/v1/notices",
            "What came to pass beside orders: milestones, follow-ups, products back in stock; oldest first (scope webhooks:read)",
            None,
            ("200", json::<NoticeDocuments>(generator)),
        )
        .query::<Page>(generator),
    ]
}

/// How far a creator reaches.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A key opinion leader.
    Kol,
    /// A key opinion consumer.
    Koc,
}

impl From<Kind> for CreatorKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Kol => CreatorKind::Kol,
            Kind::Koc => CreatorKind::Koc,
        }
    }
}

impl From<CreatorKind> for Kind {
    fn from(kind: CreatorKind) -> Self {
        match kind {
            CreatorKind::Kol => Kind::Kol,
            CreatorKind::Koc => Kind::Koc,
        }
    }
}

/// A creator to be created or changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PutCreator {
    /// At most 40 characters.
    name: String,
    kind: Kind,
    /// Their `ref`: 1 to 64 letters, digits, `-` and `_`, unique. Where absent, their id, if it is one.
    code: Option<String>,
    agency_id: Option<AgencyId>,
    /// As whom they watch and buy: they earn nothing by their own orders.
    buyer_id: Option<BuyerId>,
    /// Their share of orders that they bring, in hundredths of a percent; the server's configuration where absent.
    creator_bps: Option<u32>,
    /// Whether touches under their `ref` count for orders to come.
    #[serde(default = "yes")]
    active: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, JsonSchema)]
struct CreatorDocument {
    id: CreatorId,
    name: String,
    kind: Kind,
    code: String,
    agency_id: Option<AgencyId>,
    buyer_id: Option<BuyerId>,
    creator_bps: Option<u32>,
    active: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CreatorDocuments {
    creators: Vec<CreatorDocument>,
    /// What to ask `?after=` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<CreatorId>,
}

/// A link to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MakeLink {
    live: LiveId,
    /// 30 days where absent, 366 at most.
    ttl_seconds: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Link {
    /// The signed `ref`, for pages and apps of your own.
    #[serde(rename = "ref")]
    reference: String,
    /// The live's page under it; a path where `http.public_url` is not set.
    url: String,
    expires_at: UnixMillis,
}

/// A sold order's money.
#[derive(Debug, Serialize, JsonSchema)]
struct SplitDocument {
    order_id: OrderId,
    total: Money,
    sold_at: UnixMillis,
    /// Whose doing it was; null where nobody's.
    attributed_to: Option<Attribution>,
    /// Parts of the total. They sum to it exactly.
    parts: Parts,
    /// What was taken back of each by refunds. They sum to what was refunded, and at the end of a full refund each is
    /// all of its part.
    reversed: Parts,
    /// The buyer disputes the payment: nothing of it is to be paid out.
    frozen: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Attribution {
    creator_id: CreatorId,
    agency_id: Option<AgencyId>,
    by: By,
    at: UnixMillis,
}

/// What an order was attributed by.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    /// The `ref` that came with the checkout.
    Order,
    /// The last click within its window.
    Click,
    /// The last join of the live within its window.
    Join,
}

/// In the minor unit of the order's currency.
#[derive(Debug, Serialize, JsonSchema)]
struct Parts {
    merchant_minor: i64,
    platform_minor: i64,
    agency_minor: i64,
    creator_minor: i64,
}

impl From<&Split> for Parts {
    fn from(split: &Split) -> Self {
        Self {
            merchant_minor: split.merchant(),
            platform_minor: split.platform(),
            agency_minor: split.agency(),
            creator_minor: split.creator(),
        }
    }
}

/// A product's follow-ups; at most 10.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Followups {
    followups: Vec<Followup>,
}

/// A follow-up: the merchant is told so long after an order was paid.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Followup {
    /// 1 to 64 letters, digits, `-` and `_`.
    name: String,
    /// A minute to two years.
    after_seconds: u64,
    /// How much later for each further unit of the order.
    #[serde(default)]
    per_extra_unit_seconds: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct NoticeDocuments {
    notices: Vec<NoticeDocument>,
    /// What to ask `?after=` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct NoticeDocument {
    id: String,
    /// `buyer.milestone`, `followup.due` or `product.back_in_stock`.
    r#type: String,
    at: UnixMillis,
    /// What there is to know, by the type.
    data: Value,
}

async fn put_creator(
    State(app): State<App>,
    Path(creator): Path<String>,
    headers: HeaderMap,
    Body(put): Body<PutCreator>,
) -> Result<Json<CreatorDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Marketing.write()).await?;
    let id: CreatorId = path_id("creator", &creator)?;
    let code = put.code.unwrap_or_else(|| id.to_string());
    if !is_code(&code) {
        return Err(bad_request("code: expected 1 to 64 letters, digits, '-' and '_'"));
    }
    if put.creator_bps.is_some_and(|bps| bps > WHOLE_BPS) {
        return Err(bad_request(format!("creator_bps: expected at most {WHOLE_BPS}")));
    }
    let creator = Creator {
        id,
        merchant,
        name: clean_name(&put.name).ok_or_else(|| bad_request("name: expected a name"))?,
        kind: put.kind.into(),
        code,
        agency: put.agency_id,
        buyer: put.buyer_id,
        creator_bps: put.creator_bps,
        active: put.active,
    };
    match app.storefront.put_creator(&creator).await? {
        CreatorPut::Done => Ok(Json(document(creator))),
        CreatorPut::CodeTaken(other) => {
            let detail = format!("code: it is that of the creator {other}");
            Err(Problem::new(StatusCode::CONFLICT, "code_taken", detail))
        }
    }
}

async fn one(
    State(app): State<App>,
    Path(creator): Path<String>,
    headers: HeaderMap,
) -> Result<Json<CreatorDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Marketing.read()).await?;
    Ok(Json(document(find(&app, &merchant, &creator).await?)))
}

async fn list(
    State(app): State<App>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<CreatorDocuments>, Problem> {
    let merchant = app.merchant(&headers, Area::Marketing.read()).await?;
    let (after, limit) = (page.after()?, page.limit()?);
    let creators = app.storefront.creators(&merchant, after.as_ref(), limit).await?;
    let next = next(&creators, limit, |creator| creator.id.clone());
    Ok(Json(CreatorDocuments { creators: creators.into_iter().map(document).collect(), next }))
}

async fn link(
    State(app): State<App>,
    Path(creator): Path<String>,
    headers: HeaderMap,
    Body(make): Body<MakeLink>,
) -> Result<(StatusCode, Json<Link>), Problem> {
    let merchant = app.merchant(&headers, Area::Marketing.write()).await?;
    let seconds = make.ttl_seconds.unwrap_or(LINK_SECONDS);
    if !(1..=MAX_LINK_SECONDS).contains(&seconds) {
        return Err(bad_request(format!("ttl_seconds: expected 1 to {MAX_LINK_SECONDS}")));
    }
    let creator = find(&app, &merchant, &creator).await?;
    let expires_at = haul_live::now().wall + std::time::Duration::from_secs(seconds);
    let reference = app.touches.seal().seal(REF, creator.code.as_bytes(), expires_at);
    let url = format!("{}/watch/{}?ref={reference}", app.settings.public_url, make.live);
    Ok((StatusCode::CREATED, Json(Link { reference, url, expires_at })))
}

async fn split(
    State(app): State<App>,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Json<SplitDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Orders.read()).await?;
    let order: OrderId = path_id("order", &order)?;
    let booked = app.storefront.booking(&merchant, &order).await?;
    let booked = booked.ok_or_else(|| missing("a sold order of that id"))?;
    let booking = booked.booking;
    Ok(Json(SplitDocument {
        order_id: booked.order,
        total: booked.total,
        sold_at: booked.sold_at,
        parts: (&booking.split).into(),
        reversed: (&booking.reversed).into(),
        frozen: booking.frozen,
        attributed_to: booking.attributed.map(|attributed| Attribution {
            creator_id: attributed.creator,
            agency_id: booking.agency,
            by: match attributed.by {
                TouchKind::Order => By::Order,
                TouchKind::Click => By::Click,
                TouchKind::Join => By::Join,
            },
            at: attributed.at,
        }),
    }))
}

async fn followups(
    State(app): State<App>,
    Path(product): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Followups>, Problem> {
    let merchant = app.merchant(&headers, Area::Products.read()).await?;
    let rules = app.storefront.followups(&merchant, &path_id("product", &product)?).await?;
    let followups = rules
        .into_iter()
        .map(|FollowupRule { name, after_seconds, per_extra_unit_seconds }| Followup {
            name,
            after_seconds,
            per_extra_unit_seconds,
        })
        .collect();
    Ok(Json(Followups { followups }))
}

async fn put_followups(
    State(app): State<App>,
    Path(product): Path<String>,
    headers: HeaderMap,
    Body(put): Body<Followups>,
) -> Result<Json<Followups>, Problem> {
    let merchant = app.merchant(&headers, Area::Products.write()).await?;
    let rules: Vec<_> = put
        .followups
        .iter()
        .map(|followup| FollowupRule {
            name: followup.name.clone(),
            after_seconds: followup.after_seconds,
            per_extra_unit_seconds: followup.per_extra_unit_seconds,
        })
        .collect();
    followup::check(&rules).map_err(|error| bad_request(error.to_string()))?;
    app.storefront.put_followups(&merchant, &path_id("product", &product)?, &rules).await?;
    Ok(Json(put))
}

async fn notices(
    State(app): State<App>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<NoticeDocuments>, Problem> {
    let merchant = app.merchant(&headers, Area::Webhooks.read()).await?;
    let limit = page.limit()?;
    let notices = app.storefront.notices(&merchant, page.after.as_deref(), limit).await?;
    let next = next(&notices, limit, |notice| notice.id.clone());
    let notices = notices
        .into_iter()
        .map(|notice| NoticeDocument {
            id: notice.id,
            r#type: notice.kind,
            at: notice.at,
            data: serde_json::from_str(&notice.body).unwrap_or_default(),
        })
        .collect();
    Ok(Json(NoticeDocuments { notices, next }))
}

async fn find(app: &App, merchant: &MerchantId, creator: &str) -> Result<Creator, Problem> {
    let id: CreatorId = path_id("creator", creator)?;
    app.storefront.creator(merchant, &id).await?.ok_or_else(|| missing("the creator"))
}

fn document(creator: Creator) -> CreatorDocument {
    let Creator { id, merchant: _, name, kind, code, agency, buyer, creator_bps, active } = creator;
    CreatorDocument {
        id,
        name,
        kind: kind.into(),
        code,
        agency_id: agency,
        buyer_id: buyer,
        creator_bps,
        active,
    }
}
