//! `/v1/node`: what this node carries and whether it takes more, for whoever spreads viewers over nodes.

use axum::{Json, Router, extract::State, routing::get};
use haul_webrtc::Load;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/v1/node", get(node))
}

/// A node's capacity and load.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NodeDocument {
    version: &'static str,
    accepting: Accepting,
    capacity: Capacity,
    load: LoadDocument,
    /// One a media thread, in the order of their ports.
    shards: Vec<LoadDocument>,
}

/// Who would be let in now.
#[derive(Debug, Serialize, JsonSchema)]
struct Accepting {
    viewers: bool,
    publishers: bool,
}

/// What the node takes at most.
#[derive(Debug, Serialize, JsonSchema)]
struct Capacity {
    viewers: usize,
    publishers: usize,
    /// Of each media thread's processor; 0: no limit.
    cpu_percent: u64,
    /// Of all media sent; 0: no limit.
    egress_mbps: f64,
}

/// What it, or one of its threads, carries: as of the last second.
#[derive(Debug, Serialize, JsonSchema)]
struct LoadDocument {
    viewers: u64,
    publishers: u64,
    /// Of a thread, how much of its processor; of the node, that of its busiest thread.
    cpu_percent: f64,
    egress_mbps: f64,
}

async fn node(State(app): State<App>) -> Json<NodeDocument> {
    let node = app.edge.node();
    let staying = !*app.draining().borrow();
    let shards: Vec<LoadDocument> = node.shards.iter().map(LoadDocument::from).collect();
    let load = LoadDocument {
        viewers: shards.iter().map(|shard| shard.viewers).sum(),
        publishers: shards.iter().map(|shard| shard.publishers).sum(),
        cpu_percent: shards.iter().map(|shard| shard.cpu_percent).fold(0.0, f64::max),
        egress_mbps: mbps(node.shards.iter().map(|shard| shard.egress_bps).sum()),
    };
    Json(NodeDocument {
        version: env!("CARGO_PKG_VERSION"),
        accepting: Accepting {
            viewers: staying && node.accepts_viewers,
            publishers: staying && node.accepts_publishers,
        },
        capacity: Capacity {
            viewers: node.limits.viewers,
            publishers: node.limits.publishers,
            cpu_percent: node.limits.cpu_percent,
            egress_mbps: mbps(node.limits.egress_bps),
        },
        load,
        shards,
    })
}

impl From<&Load> for LoadDocument {
    fn from(load: &Load) -> Self {
        Self {
            viewers: load.viewers,
            publishers: load.publishers,
            cpu_percent: (load.cpu_percent * 10.0).round() / 10.0,
            egress_mbps: mbps(load.egress_bps),
        }
    }
}

fn mbps(bps: u64) -> f64 {
    (bps as f64 / 1e3).round() / 1e3
}
