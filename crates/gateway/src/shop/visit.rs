//! A visit to a live over the channel, as far as it matters who brought the visitor.

use haul_commerce::attribution::{Touch, TouchKind};
use haul_live::Live;
use haul_model::{BuyerId, HoldId, LiveId, MerchantId, ProductId, Role, Viewer};
use haul_wire::{Code, Failure, Request};

use crate::app::App;

/// Who visits what, and under whose `ref` they came.
pub(crate) struct Visit {
    merchant: MerchantId,
    live: LiveId,
    /// Nobody in particular, without a token.
    buyer: Option<BuyerId>,
    referrer: Option<String>,
    /// Host and moderators work here: what they do is nobody's doing, and in no metric.
    counts: bool,
}

impl Visit {
    /// Somebody said hello. Who comes back after a cut does not join again.
    pub(crate) fn begin(
        app: &App,
        live: &Live,
        viewer: Option<&Viewer>,
        referrer: Option<String>,
        resumes: bool,
    ) -> Self {
        let visit = Self {
            merchant: live.merchant().clone(),
            live: live.id().clone(),
            buyer: viewer.map(|viewer| viewer.id.clone()),
            referrer,
            counts: !viewer.is_some_and(|viewer| viewer.role.includes(Role::Moderator)),
        };
        if visit.counts && !resumes {
            app.touches.note(
                &visit.merchant,
                visit.referrer.as_deref(),
                visit.touch(TouchKind::Join, None, None),
            );
        }
        visit
    }

    /// Sees a request before it goes on. A checkout that says whose doing it is waits until that is written down: it
    /// decides about money.
    pub(crate) async fn see(&self, app: &App, request: &Request) -> Result<(), Failure> {
        match request {
            Request::SaleSchedule(schedule) => {
                let listing = app.storefront.listing(&self.merchant, &schedule.product_id).await;
                // Where the catalogue does not answer, the ledger still refuses.
                if listing.ok().flatten().is_some_and(|listing| listing.details.external_url.is_some()) {
                    let message = "product_id: it is sold in an external shop, and can't be held here";
                    return Err(Failure::new(Code::WrongState, message));
                }
            }
            Request::Click { product_id, referrer } if self.counts => {
                let referrer = referrer.as_deref().or(self.referrer.as_deref());
                let touch = self.touch(TouchKind::Click, Some(product_id.clone()), None);
                app.touches.note(&self.merchant, referrer, touch);
            }
            Request::Checkout { hold_id, referrer: Some(referrer), .. } if self.buyer.is_some() => {
                let touch = self.touch(TouchKind::Order, None, Some(hold_id.clone()));
                if let Err(error) = app.touches.order(&self.merchant, referrer, touch).await {
                    tracing::warn!(live = %self.live, %error, "a checkout's ref is not written down");
                    let message =
                        "whose doing this is could not be written down: your units stay reserved, try again";
                    return Err(Failure::new(Code::Unavailable, message).retry_after(1_000));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn touch(&self, kind: TouchKind, product: Option<ProductId>, hold: Option<HoldId>) -> Touch {
        Touch {
            kind,
            creator: None,
            buyer: self.buyer.clone(),
            live: self.live.clone(),
            product,
            hold,
            at: haul_live::now().wall,
        }
    }
}
