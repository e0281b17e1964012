//! How a sale was drawn, for whoever wants to check it.

use haul_commerce::{Draw, LedgerError, Line, book::HoldState};
use haul_model::{HoldId, SaleId, UnixMillis};

use crate::{Live, Lives};

/// A sale that was drawn.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// With its seed.
    pub draw: Draw,
    /// When it was drawn.
    pub draws_at: UnixMillis,
    /// Units of each line.
    pub stock: Vec<u32>,
    /// Entries that were in it then, as they were served.
    pub entries: Vec<DrawEntry>,
}

/// One of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawEntry {
    /// The hold.
    pub hold: HoldId,
    /// Of which line.
    pub line: Line,
    /// Units.
    pub quantity: u32,
    /// What decided.
    pub ticket: u64,
}

impl Lives {
    /// How a sale was drawn; `None` where it was not, or not yet by the gate's clock as the ledger has it.
    pub async fn drawn(&self, live: &Live, sale: &SaleId) -> Result<Option<Drawn>, LedgerError> {
        let recorded = self.services().ledger.recorded(live.id(), sale).await?;
        let terms = recorded.sale.terms;
        let (Some(draw), Some(draws_at)) = (terms.draw.clone(), terms.draws_at()) else { return Ok(None) };
        if recorded.clock < draws_at {
            return Ok(None);
        }
        let mut entries: Vec<DrawEntry> = recorded
            .holds
            .into_iter()
            .filter(|record| record.is_entry())
            // Given up before.
            .filter(|record| record.state != HoldState::Released || record.deadline >= draws_at)
            .filter_map(|record| {
                let (line, quantity) = record.units.iter().next()?;
                Some(DrawEntry { hold: record.hold, line, quantity, ticket: record.made })
            })
            .collect();
        entries.sort_by(|a, b| (a.line, a.ticket, &a.hold).cmp(&(b.line, b.ticket, &b.hold)));
        let stock = terms.lines().map(|line| line.stock).collect();
        Ok(Some(Drawn { draw, draws_at, stock, entries }))
    }
}
