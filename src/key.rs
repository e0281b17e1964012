//! `haul key`: a merchant's API key, for the first one and for when all are lost.

use haul_commerce::{
    audit::{Audit, Entry},
    keys::{ApiKey, Keys, hash, new_key},
};
use haul_model::MessageId;
use haul_store::SqlLedger;

use crate::{cli::Key, config::Config};

/// Writes a new key to the ledger, and gives its text.
pub(crate) async fn make(asked: Key, config: &Config) -> anyhow::Result<String> {
    let ledger = SqlLedger::open(config.ledger_url().expose()).await?;
    let (mut name, mut secret) = ([0_u8; 16], [0_u8; 32]);
    getrandom::fill(&mut name)?;
    getrandom::fill(&mut secret)?;
    let now = haul_live::now().wall;
    let (id, text) = new_key(now, u128::from_be_bytes(name), &secret);
    let key = ApiKey {
        id,
        merchant: asked.merchant,
        name: asked.name,
        scopes: asked.scopes,
        hash: hash(&[text.as_bytes()]),
        created_at: now,
        revoked_at: None,
    };
    ledger.put_key(&key).await?;
    let entry = Entry {
        id: MessageId::generate("audit_", now, u128::from_be_bytes(name)).to_string(),
        merchant: key.merchant,
        at: now,
        role: "operator".to_owned(),
        actor: "haul key".to_owned(),
        action: "make a key".to_owned(),
        target: key.id.to_string(),
        live: None,
        address: None,
    };
    ledger.record(&[entry]).await?;
    Ok(text)
}
