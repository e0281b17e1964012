//! Builds the server, runs it, and drains it.

use crate::{config::Config, secret, signals::Shutdown};

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::listen()?;
    let _secret = secret::secret(&config)?;
    let signal = shutdown.asked().await;
    tracing::info!(signal, "stopping");
    Ok(())
}
