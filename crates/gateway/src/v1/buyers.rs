//! Buyers: what a merchant knows of them, gives out and erases; and what they themselves save.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, put},
};
use haul_commerce::{
    buyers::{Charge, Details, Export, Known, Profile},
    keys::Area,
    milestones::{Badge, badge},
};
use haul_live::order_view;
use haul_model::{BuyerId, Contact, CreatorId, LiveId, MerchantId, Money, ProductId, Role, UnixMillis};
use haul_wire::OrderView;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Page, next};
use crate::{
    app::{App, path_id},
    openapi::{Operation, Who, json, refused_with},
    problem::Problem,
    rest::{Body, Params, bad_request},
};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/buyers", get(list))
        .route("/v1/buyers/{buyer}", get(one).delete(erase))
        .route("/v1/buyers/{buyer}/export", get(export))
        .route("/v1/orders/{order}/details", get(details).put(put_details))
        .route("/v1/lives/{live}/saved", get(saved))
        .route("/v1/lives/{live}/saved/{product}", put(save).delete(unsave))
}

pub(crate) fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let refusals: &'static [&'static str] = &["400", "401", "403", "404", "409", "503"];
    let op = refused_with(refusals);
    vec![
        op(
            "get",
            "/v1/buyers",
            Who::Merchant,
            "Who has bought, by id (scope buyers:read)",
            None,
            ("200", json::<BuyerPage>(generator)),
        )
        .query::<Page>(generator),
        op(
            "get",
            "/v1/buyers/{buyer}",
            Who::Merchant,
            "What is known of a buyer (scope buyers:read)",
            None,
            ("200", json::<BuyerDocument>(generator)),
        ),
        op(
            "delete",
            "/v1/buyers/{buyer}",
            Who::Merchant,
            "Erase what is personal of a buyer; orders and sums stay (scope buyers:write)",
            None,
            ("204", None),
        ),
        op(
            "get",
            "/v1/buyers/{buyer}/export",
            Who::Merchant,
            "All that is kept of a buyer (scope buyers:read)",
            None,
            ("200", json::<ExportDocument>(generator)),
        ),
        op(
            "get",
            "/v1/orders/{order}/details",
            Who::Merchant,
            "Whom an order goes to, and what of its total is shipping and tax (scope buyers:read)",
            None,
            ("200", json::<DetailsDocument>(generator)),
        ),
        op(
            "put",
            "/v1/orders/{order}/details",
            Who::Merchant,
            "Write down whom an order goes to, and what of its total is shipping and tax (scope buyers:write)",
            json::<DetailsDocument>(generator),
            ("204", None),
        ),
        op(
            "get",
            "/v1/lives/{live}/saved",
            Who::Viewer,
            "What the asker has saved, the latest first",
            None,
            ("200", json::<Saved>(generator)),
        ),
        op(
            "put",
            "/v1/lives/{live}/saved/{product}",
            Who::Viewer,
            "Save a product: the merchant is told when it is back in stock",
            None,
            ("204", None),
        ),
        op(
            "delete",
            "/v1/lives/{live}/saved/{product}",
            Who::Viewer,
            "Save it no longer",
            None,
            ("204", None),
        ),
    ]
}

/// A page of buyers.
#[derive(Debug, Serialize, JsonSchema)]
struct BuyerPage {
    buyers: Vec<ListedBuyer>,
    /// For `?after=`; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<BuyerId>,
}

/// Somebody who has bought.
#[derive(Debug, Serialize, JsonSchema)]
struct ListedBuyer {
    id: BuyerId,
    badge: Option<BadgeDocument>,
    /// Orders they paid and kept something of.
    paid_orders: u32,
    first_order_at: UnixMillis,
    last_order_at: UnixMillis,
}

/// What is known of a buyer.
#[derive(Debug, Serialize, JsonSchema)]
struct BuyerDocument {
    id: BuyerId,
    /// What is shown beside their name; null before their first paid order.
    badge: Option<BadgeDocument>,
    /// Orders they paid and kept something of.
    paid_orders: u32,
    /// What they have spent, less refunds, by currency.
    spent: Vec<Money>,
    first_order_at: Option<UnixMillis>,
    last_order_at: Option<UnixMillis>,
    milestones: Vec<MilestoneDocument>,
    /// The latest first.
    saved_products: Vec<ProductId>,
    /// When what is personal of them was erased last.
    erased_at: Option<UnixMillis>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BadgeDocument {
    /// Has paid for something here.
    VerifiedBuyer,
    /// Has done so more than once.
    RepeatBuyer,
}

#[derive(Debug, Serialize, JsonSchema)]
struct MilestoneDocument {
    /// Such as `orders:5` or `spent:EUR:10000`.
    name: String,
    at: UnixMillis,
}

/// All that is kept of a buyer.
#[derive(Debug, Serialize, JsonSchema)]
struct ExportDocument {
    buyer: BuyerDocument,
    /// Newest first, at most 10,000.
    orders: Vec<ExportedOrder>,
    /// Joins, clicks and checkouts; newest first, at most 10,000.
    touches: Vec<ExportedTouch>,
    /// What they and the hosts' teams wrote to each other.
    threads: Vec<ExportedThread>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ExportedThread {
    live_id: LiveId,
    /// With `name` and the `messages` of it that are kept, oldest first.
    thread: serde_json::Value,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ExportedOrder {
    live_id: LiveId,
    order: OrderView,
    details: DetailsDocument,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ExportedTouch {
    /// `join`, `click` or `order`.
    kind: &'static str,
    live_id: LiveId,
    product_id: Option<ProductId>,
    creator_id: Option<CreatorId>,
    at: UnixMillis,
}

/// Whom an order goes to, and what of its total is shipping and tax.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DetailsDocument {
    /// Null once it was erased, or never known.
    contact: Option<Contact>,
    /// At most 20, together no more than the order's total, of which they are part.
    #[serde(default)]
    charges: Vec<Charge>,
}

/// What the asker has saved.
#[derive(Debug, Serialize, JsonSchema)]
struct Saved {
    product_ids: Vec<ProductId>,
}

async fn list(
    State(app): State<App>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Json<BuyerPage>, Problem> {
    let merchant = app.merchant(&headers, Area::Buyers.read()).await?;
    let (after, limit) = (page.after()?, page.limit()?);
    let known = app.storefront.known_buyers(&merchant, after.as_ref(), limit).await?;
    let next = next(&known, limit, |known| known.buyer.clone());
    let listed = |known: Known| ListedBuyer {
        id: known.buyer,
        badge: badge_of(known.paid_orders),
        paid_orders: known.paid_orders,
        first_order_at: known.first_order_at,
        last_order_at: known.last_order_at,
    };
    Ok(Json(BuyerPage { buyers: known.into_iter().map(listed).collect(), next }))
}

async fn one(
    State(app): State<App>,
    Path(buyer): Path<String>,
    headers: HeaderMap,
) -> Result<Json<BuyerDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Buyers.read()).await?;
    let buyer: BuyerId = path_id("buyer", &buyer)?;
    let profile = app.storefront.profile(&merchant, &buyer).await?;
    Ok(Json(document(buyer, profile)))
}

async fn export(
    State(app): State<App>,
    Path(buyer): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ExportDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Buyers.read()).await?;
    let buyer: BuyerId = path_id("buyer", &buyer)?;
    let Export { profile, orders, touches, threads } = app.storefront.export(&merchant, &buyer).await?;
    let orders = orders.into_iter().map(|(order, details)| ExportedOrder {
        live_id: order.order.live.clone(),
        order: order_view(&order),
        details: details.into(),
    });
    let touches = touches.into_iter().map(|touch| ExportedTouch {
        kind: touch.kind.as_str(),
        live_id: touch.live,
        product_id: touch.product,
        creator_id: touch.creator,
        at: touch.at,
    });
    Ok(Json(ExportDocument {
        buyer: document(buyer, profile),
        orders: orders.collect(),
        touches: touches.collect(),
        threads: threads
            .into_iter()
            .map(|(live_id, text)| ExportedThread {
                live_id,
                thread: serde_json::from_str(&text).unwrap_or_default(),
            })
            .collect(),
    }))
}

async fn erase(
    State(app): State<App>,
    Path(buyer): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let merchant = app.merchant(&headers, Area::Buyers.write()).await?;
    let buyer: BuyerId = path_id("buyer", &buyer)?;
    // First the rooms, which would write it down again.
    let rooms = app.storefront.rooms_of(&merchant, &buyer).await?;
    app.lives.forget_person(&merchant, &buyer, rooms).await?;
    app.storefront.erase(&merchant, &buyer, haul_live::now().wall).await?;
    tracing::info!(%merchant, %buyer, "a buyer was erased");
    Ok(StatusCode::NO_CONTENT)
}

async fn details(
    State(app): State<App>,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Json<DetailsDocument>, Problem> {
    let merchant = app.merchant(&headers, Area::Buyers.read()).await?;
    Ok(Json(app.storefront.details(&merchant, &path_id("order", &order)?).await?.into()))
}

async fn put_details(
    State(app): State<App>,
    Path(order): Path<String>,
    headers: HeaderMap,
    Body(put): Body<DetailsDocument>,
) -> Result<StatusCode, Problem> {
    let who = app.backend(&headers, Area::Buyers.write()).await?;
    let order = app.order_of(&order, &who).await?;
    let details = Details::from(put);
    details.validate(order.order.total).map_err(|error| bad_request(error.to_string()))?;
    app.storefront.put_details(who.merchant(), &order.order.id, &details, haul_live::now().wall).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn saved(
    State(app): State<App>,
    Path(live): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Saved>, Problem> {
    let (merchant, buyer) = viewer(&app, &live, &headers).await?;
    let product_ids = app.storefront.profile(&merchant, &buyer).await?.saved;
    Ok(Json(Saved { product_ids }))
}

async fn save(
    State(app): State<App>,
    Path((live, product)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    put_saved(&app, &live, &product, &headers, true).await
}

async fn unsave(
    State(app): State<App>,
    Path((live, product)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    put_saved(&app, &live, &product, &headers, false).await
}

async fn put_saved(
    app: &App,
    live: &str,
    product: &str,
    headers: &HeaderMap,
    saved: bool,
) -> Result<StatusCode, Problem> {
    let (merchant, buyer) = viewer(app, live, headers).await?;
    let product: ProductId = path_id("product", product)?;
    let at = haul_live::now().wall;
    app.storefront.save_product(&merchant, &buyer, &product, saved, at).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who asks, by the token of the live they are in.
async fn viewer(app: &App, live: &str, headers: &HeaderMap) -> Result<(MerchantId, BuyerId), Problem> {
    let (live, viewer) = app.as_role(headers, &path_id("live", live)?, Role::Viewer).await?;
    Ok((live.merchant().clone(), viewer.id))
}

fn badge_of(paid_orders: u32) -> Option<BadgeDocument> {
    badge(paid_orders).map(|badge| match badge {
        Badge::VerifiedBuyer => BadgeDocument::VerifiedBuyer,
        Badge::RepeatBuyer => BadgeDocument::RepeatBuyer,
    })
}

fn document(id: BuyerId, profile: Profile) -> BuyerDocument {
    BuyerDocument {
        id,
        badge: badge_of(profile.paid_orders),
        paid_orders: profile.paid_orders,
        spent: profile.spent,
        first_order_at: profile.first_order_at,
        last_order_at: profile.last_order_at,
        milestones: profile.milestones.into_iter().map(|(name, at)| MilestoneDocument { name, at }).collect(),
        saved_products: profile.saved,
        erased_at: profile.erased_at,
    }
}

impl From<Details> for DetailsDocument {
    fn from(Details { contact, charges }: Details) -> Self {
        Self { contact, charges }
    }
}

impl From<DetailsDocument> for Details {
    fn from(DetailsDocument { contact, charges }: DetailsDocument) -> Self {
        Self { contact, charges }
    }
}
