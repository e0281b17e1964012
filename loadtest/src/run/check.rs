//! What a run needs.

use anyhow::{Result, bail};

use crate::{
    cli,
    places::Places,
    plan::Plan,
    scenario::{Scenario, Transport, Victim},
};

/// What the command line does not give, or permit, is found before anything is done.
pub(super) fn check(options: &cli::Run, scenario: &Scenario, plans: &[Plan], places: &Places) -> Result<()> {
    if scenario.needs_channel() && places.base.is_none() {
        bail!("this scenario chats or sells, which needs a Haul server: use --target");
    }
    for fault in &scenario.faults {
        if (fault.run.is_some() || fault.kill.is_some()) && !options.allow_commands {
            bail!("this scenario breaks things on this machine: read it, then add --allow-commands");
        }
        match fault.kill {
            Some(Victim::Server) if options.server_pid.is_none() => {
                bail!("this scenario kills the server: give --server-pid, and --server-start to have it back")
            }
            Some(Victim::Redis) if options.redis_pid.is_none() => {
                bail!("this scenario kills Redis: give --redis-pid, and --redis-start to have it back")
            }
            _ => {}
        }
    }
    let place = &places.lives[0];
    let publishes = |by| scenario.publisher.as_ref().is_some_and(|publisher| publisher.transport == by);
    if publishes(Transport::WebRtc) && place.whip.is_none() {
        bail!("this scenario publishes: give --whip too, or remove its [publisher] if somebody else does");
    }
    let watches = |by| plans.iter().any(|plan| plan.viewers.iter().any(|viewer| viewer.transport == by));
    if watches(Transport::WebRtc) && place.whep.is_none() {
        bail!("this scenario watches: give --whep");
    }
    if (watches(Transport::Moq) || publishes(Transport::Moq))
        && places.base.is_none()
        && options.moq.is_none()
    {
        bail!("this scenario watches or publishes by Media over QUIC: give --moq");
    }
    Ok(())
}
