//! What the gate is asked, and what it answers.

use haul_commerce::{
    Applied, CouponTerms, GateError, Image, LiveRef, Mark, Op, Rebuild, SaleTerms, Standing, book::HoldRecord,
};
use haul_model::{BuyerId, CouponCode, SaleId};
use tokio::sync::oneshot;

pub(super) struct Call {
    pub(super) live: LiveRef,
    pub(super) sale: SaleId,
    pub(super) ask: Ask,
}

pub(super) enum Ask {
    Put(SaleTerms, Mark, Answer<Applied>),
    Apply(Vec<Op>, Mark, Answer<Applied>),
    Standing(BuyerId, Mark, Answer<Vec<Standing>>),
    BeginRebuild(Mark, Answer<Rebuild>),
    PutCoupons(Vec<(CouponCode, CouponTerms)>, Answer<()>),
    Rebuild(Box<Piece>, Answer<Applied>),
}

/// A part of a rebuild.
pub(super) struct Piece {
    /// Without its holds.
    pub(super) image: Image,
    pub(super) holds: Vec<HoldRecord>,
    pub(super) last: bool,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, GateError>>;

impl Ask {
    pub(super) fn refuse(self, error: GateError) {
        match self {
            Ask::Put(_, _, answer) | Ask::Apply(_, _, answer) | Ask::Rebuild(_, answer) => {
                send(answer, Err(error));
            }
            Ask::Standing(_, _, answer) => send(answer, Err(error)),
            Ask::BeginRebuild(_, answer) => send(answer, Err(error)),
            Ask::PutCoupons(_, answer) => send(answer, Err(error)),
        }
    }
}

/// An answer that waits for its group to be durable.
pub(super) enum Pending {
    Applied(Answer<Applied>, Result<Applied, GateError>),
    Standing(Answer<Vec<Standing>>, Result<Vec<Standing>, GateError>),
    BeginRebuild(Answer<Rebuild>, Rebuild),
    PutCoupons(Answer<()>),
}

impl Pending {
    pub(super) fn give(self) {
        match self {
            Pending::Applied(answer, result) => send(answer, result),
            Pending::Standing(answer, holds) => send(answer, holds),
            Pending::BeginRebuild(answer, rebuild) => send(answer, Ok(rebuild)),
            Pending::PutCoupons(answer) => send(answer, Ok(())),
        }
    }

    pub(super) fn refuse(self, error: GateError) {
        match self {
            Pending::Applied(answer, _) => send(answer, Err(error)),
            Pending::Standing(answer, _) => send(answer, Err(error)),
            Pending::BeginRebuild(answer, _) => send(answer, Err(error)),
            Pending::PutCoupons(answer) => send(answer, Err(error)),
        }
    }
}

fn send<T>(answer: Answer<T>, result: Result<T, GateError>) {
    // Who asked may have gone away; what was decided stands, and the same question gets the same answer.
    let _ = answer.send(result);
}
