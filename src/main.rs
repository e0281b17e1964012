//! `haul`: reads the command line and the configuration, then serves, mints a token, makes a key, or reconciles.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;
mod config;
mod demo;
mod key;
mod logging;
mod moq;
mod payments;
mod reconcile;
#[cfg(test)]
mod scratch;
mod secret;
mod serve;
mod signals;

use std::{path::Path, process::ExitCode, time::SystemTime};

use clap::Parser;
use haul_gateway::auth::{Authority, Claims, Shop};
use haul_model::UnixMillis;

use crate::{
    cli::{Cli, Command},
    config::Config,
};

fn main() -> ExitCode {
    let done = match Cli::parse().command() {
        Command::Serve(file) => {
            configured(file.config.as_deref()).and_then(serve).map(|()| ExitCode::SUCCESS)
        }
        Command::Token(token) => configured(token.config.config.as_deref()).and_then(|config| {
            println!("{}", mint(token, &config)?);
            Ok(ExitCode::SUCCESS)
        }),
        Command::Key(key) => configured(key.config.config.as_deref()).and_then(|config| {
            println!("{}", runtime()?.block_on(key::make(key, &config))?);
            Ok(ExitCode::SUCCESS)
        }),
        Command::Reconcile(asked) => configured(asked.config.config.as_deref()).and_then(|config| {
            let differences = runtime()?.block_on(reconcile::run(&config, &asked.live))?;
            Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("haul: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn configured(file: Option<&Path>) -> anyhow::Result<Config> {
    let config = config::load(file, config::environment())?;
    logging::init(&config.log);
    Ok(config)
}

fn serve(config: Config) -> anyhow::Result<()> {
    runtime()?.block_on(serve::run(config))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn mint(token: cli::Token, config: &Config) -> anyhow::Result<String> {
    let now = UnixMillis::from(SystemTime::now());
    let claims = Claims {
        sub: token.sub,
        live: token.live,
        role: token.role,
        name: token.name,
        shop: Shop::default(),
        exp: now + token.ttl,
    };
    Ok(Authority::new(&secret::secret(config)?).mint_for(&token.merchant, claims, now))
}
