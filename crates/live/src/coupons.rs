//! Coupons in the stores: written down first, then made known to the gate.

use haul_commerce::{Coupon, CouponTerms, LedgerError};
use haul_model::CouponCode;
use haul_wire::{Code, Failure};

use crate::{Live, Services, chores::Chore, purchase::ledger_failed};

/// Writes a coupon down and makes it known to the gate.
pub(crate) async fn put(services: &Services, live: &Live, coupon: &Coupon) -> Result<Coupon, Failure> {
    let put = services.ledger.put_coupon(coupon).await.map_err(|error| match error {
        LedgerError::Conflict(reason) => Failure::new(Code::WrongState, reason),
        error => ledger_failed(live, &error),
    })?;
    tracing::info!(live = %live.id(), coupon = %put.code, limit = put.terms.limit, "coupon put");
    tell_gate(live, &put).await;
    Ok(put)
}

/// Changes a coupon as far as it may change.
pub(crate) async fn change(
    services: &Services,
    live: &Live,
    code: &CouponCode,
    terms: &CouponTerms,
) -> Result<Coupon, Failure> {
    let changed = services.ledger.change_coupon(live.id(), code, terms).await;
    let changed = changed.map_err(|error| ledger_failed(live, &error))?;
    tell_gate(live, &changed).await;
    Ok(changed)
}

/// A coupon that may have been made elsewhere.
pub(crate) async fn find(
    services: &Services,
    live: &Live,
    code: &CouponCode,
) -> Result<Option<Coupon>, Failure> {
    let found = services.ledger.coupon(live.id(), code).await.map_err(|error| ledger_failed(live, &error))?;
    Ok(found.map(|found| found.coupon))
}

/// It is written down: where the gate does not answer now, it is told as soon as it does.
async fn tell_gate(live: &Live, coupon: &Coupon) {
    if let Err(error) = live.gate().put_coupons(std::slice::from_ref(coupon)).await {
        tracing::warn!(live = %live.id(), coupon = %coupon.code, %error, "a coupon waits for the gate");
        live.chore(Chore::Coupons);
    }
}
