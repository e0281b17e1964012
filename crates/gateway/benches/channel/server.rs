//! The server: the gateway as the binary builds it, with stores on the disk and a live with a sale.

use std::{io::BufRead, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use haul_commerce::{Ledger, LiveRecord, Product, Sale, SaleTerms, sale::MAX_STOCK};
use haul_gateway::{
    App, Parts, RefRules, RiskSettings, Seal, Sessions, auth::Authority, origin::Origins, tls,
};
use haul_live::{Lives, Metrics, Services, Settings};
use haul_model::{MerchantId, Money};
use haul_payments::Sandbox;
use haul_room::Rate;
use haul_store::{EmbeddedGate, SqlLedger};
use haul_webrtc::{Edge, EdgeConfig, Limits};

pub(crate) const SECRET: &[u8] = b"a secret of the benchmark's alone";
pub(crate) const LIVE: &str = "bench";
pub(crate) const SALE: &str = "sale_bench";
pub(crate) const PRODUCT: &str = "cup";

pub(crate) fn run() -> ExitCode {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("channel-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let address = serve(&dir).await;
        println!("{}", address.port());
    });
    // Until whoever started this is gone, or ends it.
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
    }
    let _ = std::fs::remove_dir_all(dir);
    ExitCode::SUCCESS
}

async fn serve(dir: &std::path::Path) -> SocketAddr {
    let url = format!("sqlite://{}/ledger.db", dir.display());
    let ledger = Arc::new(SqlLedger::open(&url).await.unwrap());
    fill(&ledger).await;
    let sandbox = Sandbox::new(b"sandbox");
    let gate = EmbeddedGate::open_watched(dir.join("gate"), || haul_live::now().wall).unwrap();
    let services = Services {
        gate: Arc::new(gate),
        sharing: None,
        ledger: ledger.clone(),
        catalogue: ledger.clone(),
        notebook: ledger.clone(),
        refunds: ledger.clone(),
        provider: Arc::new(sandbox.clone()),
        // As configs/haul.toml has them.
        settings: Settings {
            chat_rate: Rate { burst: 5, every: Duration::from_secs(2) },
            hold_ms: 120_000,
            pay_ms: 600_000,
            contact: haul_model::ContactNeed::Nothing,
            reserved_names: Vec::new(),
        },
        metrics: Metrics::default(),
    };
    let lives = Lives::new(services);
    let sessions = Sessions::new();
    let config = EdgeConfig {
        bind: vec!["127.0.0.1".parse().unwrap()],
        udp_port: 0,
        shards: 1,
        public_addresses: Vec::new(),
        ice_tcp_port: None,
        limits: Limits::default(),
    };
    let edge = Edge::start(config, sessions.observer()).unwrap();
    let counters = tls::Counters::default();
    let parts = Parts {
        lives,
        storefront: ledger.clone(),
        refs: RefRules { seal: Seal::new(SECRET), signed_only: false },
        backoffice: ledger,
        webhooks: haul_courier::Client::new(haul_courier::Reach::Public),
        edge,
        sessions,
        authority: Authority::new(SECRET),
        sandbox: Some(sandbox),
        listener: counters.clone(),
        moq: None,
        collectors: Vec::new(),
    };
    let settings = haul_gateway::Settings {
        origins: Origins::new("", Vec::new()).unwrap(),
        trusted_proxies: Vec::new(),
        public_url: String::new(),
        takeover: haul_gateway::Takeover::SameHost,
        max_channels: 12_000,
        max_sessions_per_client: 100,
        ice_links: Vec::new(),
        guests_per_address: 30,
        risk: RiskSettings { per_account: 10, per_device: 0, per_address: 0, check: None },
        demo: None,
    };
    let listener = tls::bind("127.0.0.1:0".parse().unwrap(), None, 16_000, counters).await.unwrap();
    let address = axum::serve::Listener::local_addr(&listener).unwrap();
    let router = haul_gateway::router(App::new(parts, settings));
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

async fn fill(ledger: &SqlLedger) {
    let now = haul_live::now().wall;
    let currency = "EUR".parse().unwrap();
    let live = LiveRecord {
        id: LIVE.parse().unwrap(),
        merchant: MerchantId::main(),
        title: "Benchmark".to_owned(),
        public: true,
        created_at: now,
    };
    ledger.ensure_live(&live).await.unwrap();
    let product = Product {
        id: PRODUCT.parse().unwrap(),
        merchant: MerchantId::main(),
        title: "A cup".to_owned(),
        subtitle: "Blue".to_owned(),
        image_url: String::new(),
        list_price: Money { amount_minor: 2_000, currency },
    };
    ledger.put_product(&product).await.unwrap();
    ledger.add_to_bag(&live.id, &product.id).await.unwrap();
    let sale = Sale {
        id: SALE.parse().unwrap(),
        merchant: MerchantId::main(),
        live: live.id,
        product: product.id,
        variant: None,
        unit_price: Money { amount_minor: 1_600, currency },
        more: Vec::new(),
        terms: SaleTerms {
            stock: MAX_STOCK,
            per_buyer: 100,
            hold_ms: 3_600_000,
            pay_ms: 600_000,
            opens_at: now,
            closes_at: now + Duration::from_secs(86_400),
            ..SaleTerms::default()
        },
    };
    ledger.put_sale(&sale).await.unwrap();
}
