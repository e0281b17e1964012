//! The demo: a public live with three products and a flash sale, so that a newcomer sees everything work.

use std::{fmt, time::Duration};

use haul_commerce::{Ledger, LedgerError, LiveRecord, Product, Sale, SaleTerms};
use haul_gateway::auth::{Authority, Claims, Shop};
use haul_model::{LiveId, MerchantId, Money, Role, SaleId, UnixMillis};

use crate::config::Config;

/// How long the demo's flash sale is open, and how long the links' tokens work.
const EVENING: Duration = Duration::from_secs(12 * 3600);

const PRODUCTS: [(&str, &str, &str, i64); 3] = [
    ("tea", "Alpine oolong, spring harvest", "Hand-rolled, 100 g tin", 2_400),
    ("lamp", "Paper moon lamp", "Washi and oak, warm light", 8_900),
    ("bag", "Market tote, oak brown", "Waxed canvas, leather straps", 6_500),
];

/// Makes the demo live, unless it is there. A sale is added when none is open, so that there always is one to try.
pub(crate) async fn seed(ledger: &dyn Ledger, now: UnixMillis) -> Result<LiveId, LedgerError> {
    let merchant = MerchantId::main();
    let id: LiveId = "demo".parse().expect("four letters are an id");
    let live = LiveRecord {
        id: id.clone(),
        merchant: merchant.clone(),
        title: "Market night".to_owned(),
        public: true,
        created_at: now,
    };
    ledger.ensure_live(&live).await?;
    let currency = "EUR".parse().expect("three capitals are a currency");
    let known = ledger.bag(&id).await?;
    for (product, title, subtitle, amount_minor) in PRODUCTS {
        let product = Product {
            id: product.parse().expect("letters are an id"),
            merchant: merchant.clone(),
            title: title.to_owned(),
            subtitle: subtitle.to_owned(),
            image_url: format!("/assets/demo/{product}.svg"),
            list_price: Money { amount_minor, currency },
        };
        // What the host has changed stays changed, and what they took out of a bag with other things stays out.
        if known.is_empty() {
            ledger.put_product(&product).await?;
            ledger.add_to_bag(&id, &product.id).await?;
        }
    }
    let open = ledger.sales(&id, now).await?.iter().any(|sale| sale.terms.closes_at > now + EVENING / 12);
    if !open {
        let sale = Sale {
            id: SaleId::generate("sale_", now, 0),
            merchant,
            live: id.clone(),
            product: PRODUCTS[0].0.parse().expect("letters are an id"),
            variant: None,
            unit_price: Money { amount_minor: 1_600, currency },
            more: Vec::new(),
            terms: SaleTerms {
                stock: 100,
                per_buyer: 2,
                hold_ms: 120_000,
                pay_ms: 600_000,
                opens_at: now,
                closes_at: now + EVENING,
                ..SaleTerms::default()
            },
        };
        ledger.put_sale(&sale).await?;
    }
    Ok(id)
}

/// Where to go first, for the terminal.
pub(crate) struct Links {
    base: String,
    live: LiveId,
    host_token: String,
}

impl Links {
    pub(crate) fn new(config: &Config, live: &LiveId, authority: &Authority) -> Self {
        let now = haul_live::now().wall;
        let claims = Claims {
            sub: "host".parse().expect("four letters are an id"),
            live: live.into(),
            role: Role::Host,
            name: "Host".to_owned(),
            shop: Shop::default(),
            exp: now + EVENING,
        };
        Self { base: config.http.base_url(), live: live.clone(), host_token: authority.mint(claims, now) }
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, live, host_token } = self;
        writeln!(f)?;
        writeln!(f, "  Studio   {base}/studio/{live}#token={host_token}")?;
        writeln!(f, "  Watch    {base}/watch/{live}")?;
        writeln!(f, "  API      {base}/docs")?;
        writeln!(f, "  Metrics  {base}/metrics")
    }
}
