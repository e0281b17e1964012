//! The payment provider that the configuration asks for.

use std::sync::Arc;

use anyhow::Context;
use haul_commerce::{PaymentProvider, RefundRequest};
use haul_courier::{Client, Reach};
use haul_live::Lives;
use haul_model::UnixMillis;
use haul_payments::{
    Keyring, MerchantPage, Sandbox, SigningKey, Stripe,
    merchant::Opening,
    stripe::{Secrets, Settings},
};
use tokio::sync::mpsc;

use crate::config::{Config, Provider};

/// Who collects the money, and the sandbox's other end where that is the sandbox.
pub(crate) struct Paying {
    pub(crate) provider: Arc<dyn PaymentProvider>,
    pub(crate) sandbox: Option<Sandbox>,
    refunds: Option<mpsc::UnboundedReceiver<RefundRequest>>,
}

fn clock() -> UnixMillis {
    haul_live::now().wall
}

impl Paying {
    /// As configured; `secret` is the server's.
    pub(crate) fn new(config: &Config, secret: &[u8]) -> anyhow::Result<Self> {
        let payments = &config.payments;
        let provider: Arc<dyn PaymentProvider> = match payments.provider {
            Provider::Sandbox => return Ok(Self::sandbox(secret)),
            Provider::Merchant => {
                let keys: Option<Vec<_>> = payments.secrets().map(SigningKey::parse).collect();
                let keys = keys.and_then(Keyring::new).context("payments.callback_secrets")?;
                let opening = match payments.endpoint_url.as_str() {
                    "" => Opening::Redirect(payments.page_url.clone()),
                    endpoint => Opening::Endpoint(endpoint.to_owned()),
                };
                // The operator's own URLs: they may well lead into the own network.
                Arc::new(MerchantPage::new(keys, opening, Client::new(Reach::Anywhere), clock))
            }
            Provider::Stripe => {
                let secrets: Vec<&str> = payments.secrets().collect();
                let settings = Settings {
                    api_url: payments.stripe_url.clone(),
                    secret_key: payments.stripe_key.expose().to_owned(),
                    secrets: Secrets::new(&secrets).context("payments.callback_secrets")?,
                    return_url: payments.return_url(&config.http),
                };
                Arc::new(Stripe::new(settings, Client::new(Reach::Anywhere), clock))
            }
        };
        Ok(Self { provider, sandbox: None, refunds: None })
    }

    fn sandbox(secret: &[u8]) -> Self {
        let (asked, refunds) = mpsc::unbounded_channel();
        // Derived, so that nobody has to configure it, and not the secret itself, so that neither signs for the other.
        let key = [b"sandbox callbacks: ".as_slice(), secret].concat();
        let sandbox = Sandbox::new(&key).on_refund(move |request| drop(asked.send(request.clone())));
        Self { provider: Arc::new(sandbox.clone()), sandbox: Some(sandbox), refunds: Some(refunds) }
    }

    /// Begins what works by itself: refunds, and the sandbox that says they are done.
    pub(crate) fn start(&mut self, lives: &Lives) {
        tokio::spawn(lives.clone().carry_out_money());
        if let (Some(sandbox), Some(refunds)) = (self.sandbox.clone(), self.refunds.take()) {
            tokio::spawn(deliver_refunds(lives.clone(), sandbox, refunds));
        }
    }
}

/// The sandbox's other end: it calls back when it has "sent the money".
async fn deliver_refunds(
    lives: Lives,
    sandbox: Sandbox,
    mut refunds: mpsc::UnboundedReceiver<RefundRequest>,
) {
    while let Some(request) = refunds.recv().await {
        let signed = sandbox.refunded(&request, haul_live::now().wall);
        let header = |name: &str| signed.header(name);
        if let Err(error) =
            lives.callback(haul_payments::sandbox::NAME, &header, signed.body.as_bytes()).await
        {
            // It is asked for again.
            tracing::warn!(refund = %request.refund, %error, "a sandbox refund could not be recorded");
        }
    }
}
