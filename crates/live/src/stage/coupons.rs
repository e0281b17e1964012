//! Coupons: made, closed and shown by the host; checked here against what somebody wants to buy before the gate is asked for
//! a use of them.

use std::{collections::BTreeMap, time::Duration};

use haul_commerce::{
    Coupon, Op, Sale, Units,
    coupon::{self, Discount, MisfitError},
    order_id,
};
use haul_model::{CouponCode, Currency, HoldId, Money, Now, Role, SaleId, UnixMillis};
use haul_room::Note;
use haul_wire::{
    Code, Event, Failure, Reply, Request, Why,
    coupon::{CouponAsk, CouponMake, CouponNews, CouponView},
};

use super::{MemberId, Output, Payer, Stage, Then};

/// The name under which the coupon in sight is written down for the next start.
const SHOWN_NOTE: &str = "coupon";

/// What the stage knows of the live's coupons.
#[derive(Debug, Default)]
pub(super) struct Coupons {
    /// As far as they were heard of: another server may have made more. At most as many as a live may have.
    known: BTreeMap<CouponCode, Coupon>,
    /// Which of them the host shows.
    shown: Option<CouponCode>,
}

impl Coupons {
    pub(super) fn new(known: Vec<Coupon>, notes: &[(String, String)]) -> Self {
        let known: BTreeMap<_, _> = known.into_iter().map(|coupon| (coupon.code.clone(), coupon)).collect();
        let note = notes.iter().find(|(name, _)| name == SHOWN_NOTE);
        let shown = note.and_then(|(_, code)| code.parse().ok()).filter(|code| known.contains_key(code));
        Self { known, shown }
    }

    /// The coupon in sight.
    pub(super) fn shown(&self) -> Option<CouponView> {
        self.shown.as_ref().and_then(|code| self.known.get(code)).map(coupon_view)
    }
}

impl Stage {
    pub(super) fn coupon(
        &mut self,
        member: MemberId,
        id: u64,
        ask: CouponAsk,
        now: Now,
    ) -> Result<(), Failure> {
        self.allowed(member, Role::Host)?;
        match ask {
            CouponAsk::Make(make) => {
                let (show, server_time) = (make.show, self.clock.now(now));
                let coupon = self.new_coupon(make, server_time)?;
                self.outputs.push_back(Output::PutCoupon { member, id, coupon, show });
            }
            CouponAsk::Close { code } => {
                let coupon = self.known_coupon(&code)?;
                let mut terms = coupon.terms.clone();
                terms.closed = true;
                let code = coupon.code.clone();
                self.outputs.push_back(Output::ChangeCoupon { member, id, code, terms });
            }
            CouponAsk::AddUses { code, limit } => {
                let coupon = self.known_coupon(&code)?;
                let mut terms = coupon.terms.clone();
                terms.limit = limit.max(terms.limit);
                terms.validate().map_err(|error| Failure::new(Code::BadRequest, error.to_string()))?;
                let code = coupon.code.clone();
                self.outputs.push_back(Output::ChangeCoupon { member, id, code, terms });
            }
            CouponAsk::Show { code } => {
                let coupon = self.known_coupon(&code)?;
                let (view, code) = (coupon_view(coupon), coupon.code.clone());
                self.show_coupon(Some(code));
                self.reply(member, id, &Reply::Coupon { coupon: view });
            }
            CouponAsk::Hide => {
                self.show_coupon(None);
                self.reply_time(member, id, now);
            }
        }
        Ok(())
    }

    fn new_coupon(&self, make: CouponMake, server_time: UnixMillis) -> Result<Coupon, Failure> {
        let bad = |message: String| Failure::new(Code::BadRequest, message);
        let discount = match (make.amount_minor, make.percent) {
            (Some(minor), None) => Discount::Amount(minor),
            (None, Some(percent)) => Discount::Percent(percent),
            _ => return Err(bad("expected amount_minor or percent, and not both".to_owned())),
        };
        if let Some(sale) = &make.sale_id {
            self.known_sale(sale)?;
        }
        let valid_from = make.valid_from.unwrap_or(server_time);
        let coupon = Coupon {
            code: coupon::code(&make.code).map_err(|error| bad(error.to_string()))?,
            merchant: self.record.merchant.clone(),
            live: self.record.id.clone(),
            discount,
            currency: self.coupon_currency(&make)?,
            minimum_minor: make.minimum_minor,
            sale: make.sale_id,
            products: make.product_ids,
            terms: haul_commerce::CouponTerms {
                limit: make.limit,
                per_buyer: make.per_buyer,
                valid_from,
                valid_until: valid_from
                    + Duration::from_millis(make.duration_ms.min(2 * coupon::MAX_VALID_MS)),
                closed: false,
            },
            created_at: server_time,
        };
        coupon.validate().map_err(|error| bad(error.to_string()))?;
        Ok(coupon)
    }

    /// The currency of what it is for.
    fn coupon_currency(&self, make: &CouponMake) -> Result<Currency, Failure> {
        if let Some(sale) = make.sale_id.as_ref().and_then(|sale| self.sale(sale)) {
            return Ok(sale.unit_price.currency);
        }
        for product in &make.product_ids {
            if !self.bag.has(product) {
                return Err(Failure::new(Code::NotFound, "product_ids: not in this live's bag"));
            }
        }
        let meant = |product: &&haul_commerce::Product| {
            make.product_ids.is_empty() || make.product_ids.contains(&product.id)
        };
        let mut currencies = self.bag.products().filter(meant).map(|product| product.list_price.currency);
        let first = currencies
            .next()
            .ok_or_else(|| Failure::new(Code::WrongState, "there is nothing in this live's bag"))?;
        match currencies.all(|currency| currency == first) {
            true => Ok(first),
            false => Err(Failure::new(
                Code::BadRequest,
                "product_ids: the products have several currencies, name those of one",
            )),
        }
    }

    fn known_coupon(&self, code: &str) -> Result<&Coupon, Failure> {
        let code = coupon::code(code).ok();
        code.and_then(|code| self.coupons.known.get(&code))
            .ok_or_else(|| Failure::new(Code::NotFound, "code: this live has no such coupon"))
    }

    /// A coupon is written down, or could not be.
    pub(super) fn coupon_put(
        &mut self,
        member: MemberId,
        id: u64,
        show: bool,
        answer: Result<Coupon, Failure>,
    ) {
        match answer {
            Ok(coupon) => {
                let (view, code) = (coupon_view(&coupon), coupon.code.clone());
                let in_sight = self.coupons.shown.as_ref() == Some(&code);
                self.coupons.known.insert(code.clone(), coupon);
                if show || in_sight {
                    self.show_coupon(Some(code));
                }
                self.reply(member, id, &Reply::Coupon { coupon: view });
            }
            Err(failure) => self.fail(member, id, &failure),
        }
    }

    fn show_coupon(&mut self, code: Option<CouponCode>) {
        self.coupons.shown = code;
        let text = self.coupons.shown.as_ref().map(|code| code.to_string());
        self.outputs.push_back(Output::Keep(Note { name: SHOWN_NOTE.to_owned(), text }));
        let coupon = self.coupons.shown();
        self.tell_all(&Event::Coupon(CouponNews::Changed { coupon }));
    }

    /// The code that somebody typed, where it is one that this stage knows. One that it does not know is looked for, and the
    /// request comes again: then nothing is given.
    pub(super) fn typed_coupon(
        &mut self,
        member: MemberId,
        id: u64,
        typed: Option<&str>,
        again: impl FnOnce() -> Request,
    ) -> Result<Option<Option<CouponCode>>, Failure> {
        let Some(typed) = typed else { return Ok(Some(None)) };
        let code = coupon::code(typed).map_err(|_| unknown_coupon())?;
        if self.coupons.known.contains_key(&code) {
            return Ok(Some(Some(code)));
        }
        let request = Box::new(again());
        self.outputs.push_back(Output::FindCoupon { member, id, code, request });
        Ok(None)
    }

    /// The ledger was asked for a coupon: the request that named it goes on, or is refused.
    pub(super) fn coupon_found(
        &mut self,
        member: MemberId,
        id: u64,
        request: Request,
        coupon: Result<Option<Coupon>, Failure>,
        now: Now,
    ) {
        match coupon {
            Ok(Some(coupon)) => {
                self.coupons.known.insert(coupon.code.clone(), coupon);
                self.outputs.push_back(Output::TellCoupons);
                self.request(member, id, request, now);
            }
            Ok(None) => self.fail(member, id, &unknown_coupon()),
            Err(failure) => self.fail(member, id, &failure),
        }
    }

    /// A hold that is to be paid with a coupon was looked at: payment begins if the coupon is for it.
    #[expect(clippy::too_many_arguments, reason = "each is a field of the input")]
    pub(super) fn hold_seen(
        &mut self,
        member: MemberId,
        id: u64,
        payer: Box<Payer>,
        sale: SaleId,
        hold: HoldId,
        coupon: CouponCode,
        units: Result<Units, Failure>,
    ) -> Result<(), Failure> {
        self.check_coupon(&coupon, self.known_sale(&sale)?, &units?)?;
        let (buyer, order) = (payer.viewer.id.clone(), order_id(&hold));
        let op = Op::StartPayment { hold: hold.clone(), buyer, order, coupon: Some(coupon) };
        self.ask(sale, op, Then::Checkout { member, id, payer, hold });
        Ok(())
    }

    /// Refuses a coupon that is not for what somebody asks for.
    pub(super) fn check_coupon(
        &self,
        code: &CouponCode,
        sale: &Sale,
        units: &Units,
    ) -> Result<Money, Failure> {
        let coupon = self.coupons.known.get(code).ok_or_else(unknown_coupon)?;
        let lines = sale.order_lines(units);
        let lines = lines.map_err(|error| Failure::new(Code::BadRequest, format!("lines: {error}")))?;
        coupon.off(&sale.id, &lines).map_err(misfit)
    }
}

pub(super) fn unknown_coupon() -> Failure {
    Failure::new(Code::CouponInvalid, "there is no such coupon here").because(Why::Unknown)
}

/// A coupon that is not for this purchase.
pub(crate) fn misfit(error: MisfitError) -> Failure {
    let why = match error {
        MisfitError::OtherSale => Why::OtherSale,
        MisfitError::OtherProducts => Why::OtherProducts,
        MisfitError::BelowMinimum(_) => Why::BelowMinimum,
        MisfitError::Nothing => Why::NothingOff,
    };
    Failure::new(Code::CouponInvalid, error.to_string()).because(why)
}

/// A coupon, as whoever has its code may see it.
pub fn coupon_view(coupon: &Coupon) -> CouponView {
    let Coupon { code, discount, currency, minimum_minor, sale, products, terms, .. } = coupon;
    let money = |amount_minor| Money { amount_minor, currency: *currency };
    CouponView {
        code: code.clone(),
        amount: match discount {
            Discount::Amount(minor) => Some(money(*minor)),
            Discount::Percent(_) => None,
        },
        percent: match discount {
            Discount::Amount(_) => None,
            Discount::Percent(percent) => Some(*percent),
        },
        minimum: (*minimum_minor > 0).then(|| money(*minimum_minor)),
        sale_id: sale.clone(),
        product_ids: products.clone(),
        limit: terms.limit,
        per_buyer: terms.per_buyer,
        valid_from: terms.valid_from,
        valid_until: terms.valid_until,
        closed: terms.closed,
    }
}
