//! Where the server is, which lives the run is in, and the way there.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{cli, http};

/// Where to find a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Our server's base address, or nothing for any other server.
    pub(crate) base: Option<String>,
    pub(crate) lives: Vec<Place>,
}

/// Where one live is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its id; empty on a server that was given by its WHIP and WHEP addresses.
    pub(crate) live: String,
    pub(crate) whip: Option<String>,
    pub(crate) whep: Option<String>,
}

impl Places {
    /// By the command line, for so many lives.
    pub(crate) fn new(options: &cli::Run, lives: u32) -> Result<Self> {
        let Some(target) = &options.target else {
            if lives > 1 {
                bail!("a scenario in several lives needs a Haul server: use --target");
            }
            let (whip, whep) = (options.whip.clone(), options.whep.clone());
            return Ok(Self { base: None, lives: vec![Place { live: String::new(), whip, whep }] });
        };
        let base = target.trim_end_matches('/').to_owned();
        let Some(named) = options.live.clone().or_else(|| live_of(&options.token)) else {
            bail!("--token: give the host's token (haul token --live L --role host --sub you)");
        };
        let names: Vec<String> = match (lives, named.contains('*')) {
            (1, false) => vec![named],
            (1, true) => bail!("the token is for {named}: name one live with --live"),
            (_, true) => (1..=lives).map(|number| named.replace('*', &number.to_string())).collect(),
            (_, false) => bail!("the scenario is in {lives} lives: name them with --live, such as 'load-*'"),
        };
        let place = |live: String| Place {
            whip: Some(format!("{base}/whip/{live}")),
            whep: Some(format!("{base}/whep/{live}")),
            live,
        };
        Ok(Self { lives: names.into_iter().map(place).collect(), base: Some(base) })
    }

    /// Some address of the server's.
    pub(crate) fn some(&self) -> Option<&String> {
        let first = self.lives.first()?;
        self.base.as_ref().or(first.whep.as_ref()).or(first.whip.as_ref())
    }
}

/// The live, or the pattern of lives, that a token is for: its payload is plain JSON, whoever signed it.
pub(crate) fn live_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims["live"].as_str().map(str::to_owned)
}

/// Our own address on the way to a server; its port is left to the system.
pub(crate) async fn source_towards(url: &str) -> Result<SocketAddr> {
    let (host, port) =
        http::authority(url).with_context(|| format!("{url} is no http:// or https:// address"))?;
    let mut found = tokio::net::lookup_host((host.as_str(), port))
        .await
        .with_context(|| format!("no address for {host}"))?;
    let remote = found.next().with_context(|| format!("no address for {host}"))?;
    let any: SocketAddr = if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let probe = UdpSocket::bind(any)?;
    // Sends nothing: it only chooses a route.
    probe.connect(remote).with_context(|| format!("no route to {remote}"))?;
    Ok((probe.local_addr()?.ip(), 0).into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn token(live: &str) -> String {
        format!(
            "e30.{}.sig",
            URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"mia","live":"{live}","role":"host"}}"#))
        )
    }

    fn places(arguments: &str, lives: u32) -> Result<Places> {
        let line = format!("haul-loadtest run a.toml {arguments}");
        let cli::Command::Run(options) = cli::Cli::parse_from(line.split(' ')).command else {
            unreachable!()
        };
        Places::new(&options, lives)
    }

    #[test]
    fn a_token_says_which_live_it_is_for() {
        assert_eq!(live_of(&token("demo")).as_deref(), Some("demo"));
        for none in ["", "a.b.c", "e30.e30.x"] {
            assert_eq!(live_of(none), None);
        }
    }

    #[test]
    fn lives_are_named_by_the_token_or_by_a_pattern() {
        let one = places(&format!("--target http://h/ --token {}", token("demo")), 1).unwrap();
        assert_eq!(one.lives[0].whip.as_deref(), Some("http://h/whip/demo"));
        let three = places(&format!("--target http://h --token {} --live load-*", token("*")), 3).unwrap();
        let names: Vec<_> = three.lives.iter().map(|place| place.live.as_str()).collect();
        assert_eq!(names, ["load-1", "load-2", "load-3"]);
        let by_token = places(&format!("--target http://h --token {}", token("shop-*")), 2).unwrap();
        assert_eq!(by_token.lives[1].live, "shop-2");
        let foreign = places("--whip http://h/a --whep http://h/b", 1).unwrap();
        assert_eq!((foreign.some(), &foreign.base), (Some(&"http://h/b".to_owned()), &None));
        for (arguments, lives, expected) in [
            (format!("--target http://h --token {}", token("*")), 1, "name one live"),
            (format!("--target http://h --token {}", token("demo")), 2, "such as 'load-*'"),
            ("--target http://h --token x".to_owned(), 1, "give the host's token"),
            ("--whep http://h/b".to_owned(), 2, "--target"),
        ] {
            let error = places(&arguments, lives).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }

    #[tokio::test]
    async fn our_address_is_on_the_way() {
        assert_eq!(
            source_towards("http://127.0.0.1:1/x").await.unwrap(),
            SocketAddr::from(([127, 0, 0, 1], 0))
        );
        assert!(source_towards("nonsense").await.is_err());
    }
}
