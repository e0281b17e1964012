//! The sales of a live as its owner sees them: the terms, and the gate's latest word on the stock.

use std::time::{Duration, Instant};

use haul_commerce::{Applied, Counts, Mark, Sale, SaleMode};
use haul_model::UnixMillis;
use haul_wire::{DrawView, EarlyView, Event, SaleLineView, SaleState, SaleView, StockView};

/// Moves of a sale's stock within this time are told as one.
pub(crate) const STOCK_EVERY: Duration = Duration::from_millis(100);
/// How long a sale is still shown after it closed, once nobody holds anything of it.
pub(crate) const SHOWN_AFTER_CLOSE: Duration = Duration::from_secs(600);
/// How long to leave the gate alone after it could not be asked to sweep.
pub(crate) const SWEEP_RETRY: Duration = Duration::from_secs(1);

/// A sale on stage.
#[derive(Debug)]
pub(crate) struct OnSale {
    pub(crate) sale: Sale,
    pub(crate) counts: Counts,
    /// The same line by line, where there are several.
    lines: Vec<Counts>,
    /// Of the newest `counts`: answers may overtake each other.
    mark: Mark,
    /// The latest that the gate's own clock was seen at.
    gate_time: UnixMillis,
    /// The gate has lost something of it; nothing is sold until it is rebuilt.
    pub(crate) frozen: bool,
    /// What the room was told last.
    told: Counts,
    told_lines: Vec<Counts>,
    /// When to tell the room again, where it was not told the latest.
    pub(crate) tell_at: Option<Instant>,
    told_at: Option<Instant>,
    pub(crate) state_told: SaleState,
    /// The gate's next deadline.
    pub(crate) next_deadline: Option<UnixMillis>,
    /// A sweep is under way, or failed a moment ago: not before this.
    pub(crate) sweep_not_before: Option<Instant>,
}

impl OnSale {
    pub(crate) fn new(sale: Sale, applied: &Applied) -> Self {
        Self {
            sale,
            counts: applied.counts,
            lines: applied.lines.clone(),
            mark: applied.mark,
            gate_time: applied.now,
            frozen: false,
            told: applied.counts,
            told_lines: applied.lines.clone(),
            tell_at: None,
            told_at: None,
            state_told: SaleState::Scheduled,
            next_deadline: applied.next_deadline,
            sweep_not_before: None,
        }
    }

    /// One that the gate has not answered about yet: nothing is sold of it until it has.
    pub(crate) fn awaited(sale: Sale) -> Self {
        let counts = vec![Counts::default(); if sale.more.is_empty() { 0 } else { 1 + sale.more.len() }];
        Self {
            sale,
            counts: Counts::default(),
            lines: counts.clone(),
            mark: Mark::default(),
            gate_time: UnixMillis::default(),
            frozen: true,
            told: Counts::default(),
            told_lines: counts,
            tell_at: None,
            told_at: None,
            state_told: SaleState::Scheduled,
            next_deadline: None,
            sweep_not_before: None,
        }
    }

    /// Takes the gate's word on the stock in, and sees whether the room must hear of it.
    pub(crate) fn observe(&mut self, applied: &Applied, now: Instant) {
        if applied.mark < self.mark {
            return;
        }
        self.mark = applied.mark;
        self.gate_time = self.gate_time.max(applied.now);
        self.counts = applied.counts;
        self.lines.clone_from(&applied.lines);
        self.next_deadline = applied.next_deadline;
        let gone = |now: &Counts, told: &Counts| now.available == 0 && told.available > 0;
        if self.counts == self.told && self.lines == self.told_lines {
            self.tell_at = None;
        } else if gone(&self.counts, &self.told)
            || self.lines.iter().zip(&self.told_lines).any(|(now, told)| gone(now, told))
        {
            self.tell_at = Some(now);
        } else if self.tell_at.is_none() {
            self.tell_at = Some(self.told_at.map_or(now, |told_at| now.max(told_at + STOCK_EVERY)));
        }
    }

    /// Whether it was rebuilt, by this process or another, since the gate was heard last.
    pub(crate) fn is_rebuilt(&self, applied: &Applied) -> bool {
        applied.mark.epoch > self.mark.epoch
    }

    /// The stock for the room, if it is time.
    pub(crate) fn stock_event(&mut self, now: Instant) -> Option<Event> {
        self.tell_at.filter(|at| *at <= now)?;
        self.tell_at = None;
        self.told_at = Some(now);
        self.told = self.counts;
        self.told_lines.clone_from(&self.lines);
        let Counts { available, held, sold } = self.counts;
        let lines = self.lines.iter().map(stock_view).collect();
        Some(Event::StockChanged { sale_id: self.sale.id.clone(), available, held, sold, lines })
    }

    pub(crate) fn state(&self, server_time: UnixMillis) -> SaleState {
        if self.frozen && server_time < self.sale.terms.closes_at {
            SaleState::Frozen
        } else if server_time < self.sale.terms.opens_at {
            SaleState::Scheduled
        } else if server_time < self.sale.terms.closes_at {
            if self.sale.terms.paused { SaleState::Paused } else { SaleState::Open }
        } else {
            SaleState::Closed
        }
    }

    /// When the state changes by itself.
    pub(crate) fn next_change(&self, server_time: UnixMillis) -> Option<UnixMillis> {
        let terms = &self.sale.terms;
        [terms.opens_at, terms.closes_at].into_iter().find(|at| *at > server_time)
    }

    /// Whether the gate's clock has come to the draw.
    pub(crate) fn is_drawn(&self) -> bool {
        self.sale.terms.draws_at().is_some_and(|draws_at| self.gate_time >= draws_at)
    }

    /// Whether it has been over for long enough to leave the stage.
    pub(crate) fn is_history(&self, server_time: UnixMillis) -> bool {
        self.counts.held == 0 && server_time >= self.sale.terms.closes_at + SHOWN_AFTER_CLOSE
    }

    pub(crate) fn view(&self, server_time: UnixMillis) -> SaleView {
        let Sale { id, product, variant, unit_price, terms, .. } = &self.sale;
        let lines = self.sale.lines().zip(terms.lines()).zip(&self.lines);
        SaleView {
            id: id.clone(),
            product_id: product.clone(),
            variant_id: variant.clone(),
            price: *unit_price,
            state: self.state(server_time),
            opens_at: terms.opens_at,
            closes_at: terms.closes_at,
            per_buyer: terms.per_buyer,
            hold_ms: terms.hold_ms,
            // Never above what the lines have: MAX_LINES lines of at most MAX_STOCK.
            stock: terms.total_stock() as u32,
            available: self.counts.available,
            held: self.counts.held,
            sold: self.counts.sold,
            offer_ms: terms.offer_ms,
            draw: terms.draw.as_ref().zip(terms.draws_at()).map(|(draw, draws_at)| DrawView {
                draws_at,
                commitment: draw.commitment(),
                // Not before the gate itself takes no entry any more: whoever has the seed could choose a ticket.
                seed: self.is_drawn().then(|| draw.seed.clone()),
            }),
            mode: match terms.mode {
                SaleMode::HoldInCart => haul_wire::SaleMode::HoldInCart,
                SaleMode::FirstPaid => haul_wire::SaleMode::FirstPaid,
            },
            early: terms
                .early
                .iter()
                .map(|early| EarlyView {
                    tier: early.tier.clone(),
                    opens_at: terms.opens_for(Some(&early.tier)),
                })
                .collect(),
            lines: lines
                .map(|((line, terms), counts)| SaleLineView {
                    product_id: line.product,
                    variant_id: line.variant,
                    price: line.unit_price,
                    per_buyer: terms.per_buyer,
                    stock: terms.stock,
                    units: stock_view(counts),
                })
                .collect(),
        }
    }
}

fn stock_view(&Counts { available, held, sold }: &Counts) -> StockView {
    StockView { available, held, sold }
}
