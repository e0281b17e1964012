//! Builds the server, runs it, and drains it. The one place that knows which stores and edges there are.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use haul_commerce::{
    Gate,
    keys::{KEEP_ANSWERS, Keys},
};
use haul_courier::{Client, Reach, SigningKey, webhooks};
use haul_gateway::{App, Check, Parts, RiskSettings, Sessions, auth::Authority, tls};
use haul_live::{Lives, Metrics, Services, Settings, Sharing};
use haul_room::Rate;
use haul_store::{EmbeddedGate, RedisBus, RedisGate, RedisOptions, SqlLedger};
use haul_webrtc::{Edge, EdgeConfig, Limits};
use tokio::time::timeout;

use crate::{
    config::{CheckFails, Config, GateUrl, Takeover},
    demo, moq,
    payments::Paying,
    secret,
    signals::Shutdown,
};

/// How long clients may take to hear that the server is going away.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Chat lines in a row, after a pause.
const CHAT_BURST: u32 = 5;
/// Clocks that differ by more are a fault that the operator is told of.
const CLOCKS_AGREE_MS: u64 = 2_000;

/// Runs until SIGINT or SIGTERM, and then until everybody has been told.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::listen()?;
    let secret = secret::secret(&config)?;
    let mut paying = Paying::new(&config, &secret)?;
    if paying.sandbox.is_some() && !config.demo {
        tracing::warn!(
            "payments.provider is \"sandbox\": no money moves, and every buyer can mark their own order as paid; \
             set it to \"stripe\" or \"merchant\" before anything is sold"
        );
    }

    let ledger = Arc::new(SqlLedger::open(config.ledger_url().expose()).await?);
    for weakness in ledger.weaknesses() {
        tracing::warn!("the ledger's database: {weakness}");
    }
    let services = Services {
        gate: gate(&config).await?,
        sharing: sharing(&config).await?,
        ledger: ledger.clone(),
        catalogue: ledger.clone(),
        notebook: ledger.clone(),
        refunds: ledger.clone(),
        provider: paying.provider.clone(),
        settings: live_settings(&config),
        metrics: Metrics::default(),
    };
    let demo = match config.demo {
        true => Some(demo::seed(&*ledger, haul_live::now().wall).await.context("cannot seed the demo live")?),
        false => None,
    };
    let lives = Lives::new(services);
    lives.resume().await.context("cannot take up the lives of the last run")?;
    tokio::spawn(lives.clone().take_up());
    tokio::spawn(lives.clone().settle_unfinished());
    tokio::spawn(haul_live::follow_orders(ledger.clone(), config.rules()));
    tokio::spawn(haul_live::look_after_buyers(ledger.clone(), config.buyers.keep()));
    paying.start(&lives);
    let reach = if config.webhooks.allow_private { Reach::Anywhere } else { Reach::Public };
    let client = Client::new(reach);
    tokio::spawn(webhooks::deliver(ledger.clone(), client.clone()));
    tokio::spawn(forget_answers(ledger.clone()));

    let sessions = Sessions::new();
    let edge = Edge::start(edge_config(&config), sessions.observer())
        .context("media.bind, media.udp_port, media.ice_tcp_port and media.public_addresses")?;
    let authority = Authority::new(&secret);
    let links = demo.as_ref().map(|demo| demo::Links::new(&config, demo, &authority));
    let settings = haul_gateway::Settings {
        origins: config.http.origins(),
        trusted_proxies: config.http.trusted_proxies.clone(),
        public_url: config.http.public_url.clone(),
        takeover: takeover(&config),
        max_channels: config.channel.max_connections,
        max_sessions_per_client: config.media.max_sessions_per_client,
        guests_per_address: config.channel.guests_per_address,
        ice_links: config.ice.servers.iter().map(|server| server.link()).collect(),
        risk: risk(&config),
        demo,
    };
    let counters = tls::Counters::default();
    let moq_slot = moq::Slot::default();
    let parts = Parts {
        lives: lives.clone(),
        storefront: ledger.clone(),
        refs: haul_gateway::RefRules {
            seal: haul_gateway::Seal::new(&secret),
            signed_only: config.creators.signed_refs,
        },
        backoffice: ledger.clone(),
        webhooks: client.clone(),
        edge: edge.clone(),
        sessions,
        authority,
        sandbox: paying.sandbox,
        listener: counters.clone(),
        moq: moq::door(&config, &moq_slot),
        collectors: vec![Box::new(moq::Counters(moq_slot.clone()))],
    };
    let app = App::new(parts, settings);
    let moq = moq::start(&config, app.clone(), edge.clone(), &moq_slot).await?;

    let files = config.http.tls().map(|(cert, key)| tls::TlsFiles { cert: cert.into(), key: key.into() });
    let listener = tls::bind(config.http.listen, files, config.http.max_connections, counters)
        .await
        .context("http.listen, http.tls_cert and http.tls_key")?;
    tracing::info!(listen = %config.http.listen, version = env!("CARGO_PKG_VERSION"), "ready");
    if let Some(links) = links {
        // Nobody may be reading: no reason to end, as `println!` would.
        let _ = writeln!(std::io::stdout(), "{links}");
    }
    let router = haul_gateway::router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());

    let signal = shutdown.asked().await;
    tracing::info!(signal, "draining");
    app.drain();
    let _ = stop.send(());
    let everybody = async {
        edge.drain().await;
        if let Some(moq) = &moq {
            moq.drain().await;
        }
        app.drained().await;
        lives.written().await;
        server.await
    };
    match timeout(DRAIN_WITHIN, everybody).await {
        Ok(served) => served.context("the HTTP server failed")??,
        Err(_) => tracing::warn!("some connections did not end in time"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// The gate, or a clear word about why there is none.
async fn gate(config: &Config) -> anyhow::Result<Arc<dyn Gate>> {
    Ok(match &config.store.gate_url {
        GateUrl::Embedded => {
            let gate = EmbeddedGate::open_watched(config.data_dir.join("gate"), || haul_live::now().wall)?;
            let found = gate.recovery();
            tracing::info!(sales = found.sales, torn_bytes = found.torn_bytes, "embedded gate opened");
            Arc::new(gate)
        }
        GateUrl::Redis(url) => {
            let gate = RedisGate::connect_with(url.expose(), redis_options(config)).await?;
            for weakness in gate.weaknesses().await {
                tracing::warn!("Redis: {weakness}; see configs/redis.conf");
            }
            let (theirs, ours) = (gate.now().await?, haul_live::now().wall);
            let off_ms = theirs.0.abs_diff(ours.0);
            if off_ms > CLOCKS_AGREE_MS {
                tracing::warn!(
                    off_ms,
                    "the clock of Redis and this machine's differ: sales open and close by that of Redis. Synchronise both"
                );
            }
            Arc::new(gate)
        }
    })
}

fn redis_options(config: &Config) -> RedisOptions {
    RedisOptions {
        response_timeout: Duration::from_millis(config.store.gate_timeout_ms),
        wait_replicas: config.store.gate_wait_replicas,
        wait_timeout: Duration::from_millis(config.store.gate_wait_ms),
        ..RedisOptions::default()
    }
}

/// Over what rooms are shared with other servers, if they are.
async fn sharing(config: &Config) -> anyhow::Result<Option<Sharing>> {
    let GateUrl::Redis(url) = &config.store.gate_url else { return Ok(None) };
    if !config.store.share_rooms {
        return Ok(None);
    }
    let bus = RedisBus::connect_with(url.expose(), redis_options(config)).await?;
    let sharing = Sharing::new(Arc::new(bus), getrandom::u64().context("no randomness")?);
    tracing::info!(node = sharing.node(), "rooms are shared with other servers");
    Ok(Some(sharing))
}

/// Forgets answers that nobody can ask for again.
async fn forget_answers(keys: Arc<SqlLedger>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(600));
    loop {
        ticks.tick().await;
        let before = haul_live::now().wall - KEEP_ANSWERS;
        if let Err(error) = keys.forget_requests(before).await {
            tracing::warn!(%error, "old answers were not forgotten");
        }
    }
}

fn live_settings(config: &Config) -> Settings {
    let every = Duration::from_secs(60) / config.channel.chat_per_minute;
    Settings {
        chat_rate: Rate { burst: CHAT_BURST, every },
        hold_ms: config.sale.hold_seconds * 1000,
        pay_ms: config.sale.pay_seconds * 1000,
        contact: config.sale.contact,
        reserved_names: config.channel.reserved_names.clone(),
    }
}

fn risk(config: &Config) -> RiskSettings {
    let risk = &config.risk;
    let keys = SigningKey::parse(risk.check_secret.expose()).filter(|_| !risk.check_url.is_empty());
    RiskSettings {
        per_account: risk.holds_per_account,
        per_device: risk.holds_per_device,
        per_address: risk.holds_per_address,
        check: keys.map(|key| Check {
            url: risk.check_url.clone(),
            keys: key.into(),
            client: Client::new(Reach::Anywhere),
            deadline: Duration::from_millis(risk.check_ms),
            fail_open: risk.check_fails == CheckFails::Open,
        }),
    }
}

fn edge_config(config: &Config) -> EdgeConfig {
    let shards = config.media.shards().get();
    EdgeConfig {
        bind: config.media.bind.clone(),
        udp_port: config.media.udp_port,
        shards,
        public_addresses: config.media.public_addresses.clone(),
        ice_tcp_port: config.media.ice_tcp_port(),
        limits: Limits {
            viewers: config.media.max_viewers,
            publishers: config.media.max_publishers,
            cpu_percent: config.media.max_cpu_percent,
            egress_bps: config.media.max_egress_mbps * 1_000_000,
            ..Limits::default()
        },
    }
}

fn takeover(config: &Config) -> haul_gateway::Takeover {
    match config.media.takeover {
        Takeover::SameHost => haul_gateway::Takeover::SameHost,
        Takeover::Refuse => haul_gateway::Takeover::Refuse,
        Takeover::AnyHost => haul_gateway::Takeover::AnyHost,
    }
}
