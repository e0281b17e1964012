//! Why a store could not be opened. Each message is for the operator at the terminal: what, where, and what to do.

use std::{io, path::PathBuf};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address can't be understood, or names a store that this build doesn't have. Correct the configuration.
    #[error("{given:?} is not an address of {what}: {why}")]
    Address {
        /// What it should be an address of.
        what: &'static str,
        /// What was given, without a password.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// Redis can't be reached, or lets nobody in. Start it, or configure another gate.
    #[error(
        "cannot use Redis at {address}: {why}. Start it, correct store.gate_url, or set that to \"embedded:\" to \
         run without Redis"
    )]
    Redis {
        /// Host and port.
        address: String,
        /// What happened.
        why: String,
    },
    /// Another process has the directory open. Stop it, or give this one a directory of its own.
    #[error("{} is in use by another process; stop it, or configure another data_dir", .0.display())]
    Locked(PathBuf),
    /// The journal can't be read to its end. Restore it from a backup; nothing was changed.
    #[error("the journal {} is damaged at byte {offset}: {why}; restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The file system refuses.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database can't be opened or brought to this version's tables.
    #[error("cannot open the ledger {address}: {why}")]
    Ledger {
        /// The database, without a password.
        address: String,
        /// What happened.
        why: String,
    },
}

/// A URL for messages.
pub(crate) fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}
