//! What members ask for.

use haul_commerce::{
    Draw, EarlyAccess, Line, LineTerms, Op, Sale, SaleLine, SaleMode, SaleMove, SaleTerms, Units,
    buyers::Details, hold_id, order_id, sale::MAX_STOCK, sale_id,
};
use haul_model::{
    Charge, Contact, HoldId, Money, Now, OrderId, ProductId, Role, SaleId, TierId, UnixMillis, Viewer,
};
use haul_room::Lane;
use haul_wire::{
    Code, EarlySchedule, Failure, LineSchedule, LineUnits, MAX_KEY_BYTES, Pin, Reply, Request, SaleSchedule,
};
use rand::RngExt;

use super::{
    MAX_HOLD_LINES, MAX_LINES_ON_STAGE, MAX_SALES, MemberId, Output, Stage, Then, To, answers,
    messages::Payer,
};

impl Stage {
    pub(super) fn request(&mut self, member: MemberId, id: u64, request: Request, now: Now) {
        if let Err(failure) = self.try_request(member, id, request, now) {
            self.fail(member, id, &failure);
        }
    }

    /// Does it, or begins it: a request that must wait for the gate or the ledger is answered when they have.
    fn try_request(&mut self, member: MemberId, id: u64, request: Request, now: Now) -> Result<(), Failure> {
        match request {
            Request::Hello { .. } if self.members.get(&member).is_some_and(|member| member.visiting) => {
                self.knock(member, id, now)
            }
            Request::Hello { .. } => {
                Err(Failure::new(Code::BadRequest, "hello: expected once, as the first message"))
            }
            // The media's edge decides about it, not the room: the gateway does not hand it on.
            Request::QualitySet { .. } => Err(Failure::new(Code::NotFound, "no such session")),
            // The gateway has counted the click.
            Request::Ping | Request::Click { .. } => {
                self.reply_time(member, id, now);
                Ok(())
            }
            Request::Chat(ask) => self.chat(member, id, ask, now),
            Request::Question(ask) => self.question(member, id, ask, now),
            Request::Show(ask) => self.show(member, id, ask, now),
            Request::Crowd(ask) => self.crowd(member, id, ask, now),
            Request::Coupon(ask) => self.coupon(member, id, ask, now),
            Request::Pin { product_id } => self.pin(member, id, Some(product_id), now),
            Request::Unpin => self.pin(member, id, None, now),
            Request::SaleSchedule(schedule) => self.schedule(member, id, schedule, now),
            Request::SaleOpen { sale_id } => {
                self.move_sale(member, id, &sale_id, now, |terms, server_time| {
                    let duration = terms.closes_at.saturating_since(terms.opens_at);
                    if terms.closes_at <= server_time {
                        return Err(Failure::new(Code::WrongState, "the sale is over already"));
                    }
                    // That it is so already is what was asked for: the answer to it may have been lost.
                    if terms.opens_at <= server_time {
                        return Ok(SaleMove::default());
                    }
                    let (opens_at, closes_at) = (Some(server_time), Some(server_time + duration));
                    Ok(SaleMove { opens_at, closes_at, paused: None })
                })
            }
            Request::SaleClose { sale_id } => {
                self.move_sale(member, id, &sale_id, now, |terms, server_time| {
                    if terms.closes_at <= server_time {
                        return Ok(SaleMove::default());
                    }
                    let opens_at = Some(terms.opens_at.min(server_time));
                    Ok(SaleMove { opens_at, closes_at: Some(server_time), paused: None })
                })
            }
            Request::SaleReschedule { sale_id, opens_at, closes_at } => {
                self.reschedule(member, id, &sale_id, opens_at, closes_at, now)
            }
            Request::SalePause { sale_id } => self.pause(member, id, &sale_id, true, now),
            Request::SaleResume { sale_id } => self.pause(member, id, &sale_id, false, now),
            Request::SaleAddStock { sale_id, line, units, key } => {
                self.add_stock(member, id, sale_id, line, units, key)
            }
            Request::OrderRestock { order_id, lines, key } => self.restock(member, id, order_id, &lines, key),
            Request::Hold { sale_id, quantity, lines, key, coupon } => {
                let units = match (quantity, &lines[..]) {
                    (quantity, []) => quantity.unwrap_or(1).into(),
                    (None, lines) => units_of(lines)?,
                    (Some(_), _) => {
                        return Err(Failure::new(Code::BadRequest, "expected quantity or lines, not both"));
                    }
                };
                let ask = HoldAsk { sale: sale_id, units, key, coupon };
                self.hold(member, id, ask, now)
            }
            Request::Wait { sale_id, line, quantity, key } => {
                self.wait(member, id, sale_id, Units::of_line(line, quantity), &key, now)
            }
            Request::HoldCancel { sale_id, hold_id } => self.cancel(member, id, sale_id, hold_id, now),
            Request::Checkout { sale_id, hold_id, coupon, referrer: _, contact, charges } => {
                let ask = CheckoutAsk { sale: sale_id, hold: hold_id, coupon, contact, charges };
                self.checkout(member, id, ask, now)
            }
        }
    }

    /// The asker, if they may.
    pub(super) fn allowed(&self, member: MemberId, needed: Role) -> Result<&Viewer, Failure> {
        let viewer = self.members.get(&member).and_then(|member| member.viewer.as_ref());
        match viewer {
            None => {
                Err(Failure::new(Code::Unauthorized, "this needs a token: open the link your shop gave you"))
            }
            Some(viewer) if !viewer.role.includes(needed) => {
                Err(Failure::new(Code::Forbidden, format!("this needs the role {}", needed.as_str())))
            }
            Some(viewer) => Ok(viewer),
        }
    }

    fn pin(
        &mut self,
        member: MemberId,
        id: u64,
        product: Option<ProductId>,
        now: Now,
    ) -> Result<(), Failure> {
        self.allowed(member, Role::Moderator)?;
        if let Some(product) = &product
            && !self.bag.has(product)
        {
            return Err(Failure::new(Code::NotFound, "product_id: not in this live's bag"));
        }
        let since = self.clock.now(now);
        let media_ms = self.media_ms(now);
        let line = self.room.set_pin(product.map(|product_id| Pin { product_id, since, media_ms }));
        self.deliver(To::All, Lane::Room, None, line);
        self.reply_time(member, id, now);
        Ok(())
    }

    fn schedule(&mut self, member: MemberId, id: u64, ask: SaleSchedule, now: Now) -> Result<(), Failure> {
        let maker = self.allowed(member, Role::Host)?.id.clone();
        let sale_id = match &ask.key {
            Some(key) => {
                check_key(key)?;
                sale_id(&self.live, &maker, key)
            }
            None => SaleId::generate("sale_", now.wall, self.rng.random()),
        };
        let known = self.sales.contains_key(&sale_id);
        if self.sales.len() >= MAX_SALES && !known {
            return Err(Failure::new(Code::WrongState, format!("a live may have {MAX_SALES} sales at once")));
        }
        let on_stage: usize = self.sales.values().map(|on_sale| on_sale.sale.more.len()).sum();
        if on_stage + ask.more.len() > MAX_LINES_ON_STAGE && !known {
            return Err(Failure::new(
                Code::WrongState,
                format!("the sales of a live may have {MAX_LINES_ON_STAGE} further lines at once"),
            ));
        }
        let price = |product: &ProductId, amount_minor: i64| {
            let known = self.bag.products().find(|known| known.id == *product);
            known
                .map(|known| Money { amount_minor, currency: known.list_price.currency })
                .ok_or_else(|| Failure::new(Code::NotFound, "product_id: not in this live's bag"))
        };
        let unit_price = price(&ask.product_id, ask.price_minor)?;
        let (mut more, mut more_terms) = (Vec::new(), Vec::new());
        for LineSchedule { product_id, variant_id, price_minor, stock, per_buyer } in ask.more {
            let unit_price = price(&product_id, price_minor)?;
            more.push(SaleLine { product: product_id, variant: variant_id, unit_price });
            more_terms.push(LineTerms { stock, per_buyer });
        }
        let server_time = self.clock.now(now);
        let opens_at = ask.opens_at.map_or(server_time, |opens_at| opens_at.max(server_time));
        let sale = Sale {
            id: sale_id,
            merchant: self.record.merchant.clone(),
            live: self.record.id.clone(),
            product: ask.product_id,
            variant: ask.variant_id,
            unit_price,
            more,
            terms: SaleTerms {
                stock: ask.stock,
                per_buyer: ask.per_buyer,
                hold_ms: ask.hold_ms.unwrap_or(self.settings.hold_ms),
                pay_ms: self.settings.pay_ms,
                opens_at,
                closes_at: opens_at + std::time::Duration::from_millis(ask.duration_ms),
                more: more_terms,
                paused: false,
                offer_ms: ask.offer_ms,
                draw: ask.draw_ms.map(|ms| Draw::new(ms, [self.rng.random(), self.rng.random()])),
                mode: match ask.mode {
                    haul_wire::SaleMode::HoldInCart => SaleMode::HoldInCart,
                    haul_wire::SaleMode::FirstPaid => SaleMode::FirstPaid,
                },
                early: ask
                    .early
                    .into_iter()
                    .map(|EarlySchedule { tier, ms }| EarlyAccess { tier, ms })
                    .collect(),
            },
        };
        sale.validate().map_err(|error| Failure::new(Code::BadRequest, error.to_string()))?;
        self.outputs.push_back(Output::PutSale { member, id, sale, made: ask.key.is_some() });
        Ok(())
    }

    fn reschedule(
        &mut self,
        member: MemberId,
        id: u64,
        sale: &SaleId,
        opens_at: Option<UnixMillis>,
        closes_at: Option<UnixMillis>,
        now: Now,
    ) -> Result<(), Failure> {
        self.move_sale(member, id, sale, now, |terms, server_time| {
            if terms.closes_at <= server_time {
                return Err(Failure::new(Code::WrongState, "the sale is over already"));
            }
            if opens_at.is_some() && terms.opens_at <= server_time {
                return Err(Failure::new(Code::WrongState, "the sale has opened already"));
            }
            let opens = opens_at.map_or(terms.opens_at, |at| at.max(server_time));
            let lasts = terms.closes_at.saturating_since(terms.opens_at);
            let terms =
                SaleTerms { opens_at: opens, closes_at: closes_at.unwrap_or(opens + lasts), ..terms.clone() };
            if terms.closes_at <= server_time {
                return Err(Failure::new(Code::BadRequest, "closes_at: expected a time to come"));
            }
            terms.validate().map_err(|error| Failure::new(Code::BadRequest, error.to_string()))?;
            Ok(SaleMove { opens_at: Some(terms.opens_at), closes_at: Some(terms.closes_at), paused: None })
        })
    }

    fn pause(
        &mut self,
        member: MemberId,
        id: u64,
        sale: &SaleId,
        paused: bool,
        now: Now,
    ) -> Result<(), Failure> {
        self.move_sale(member, id, sale, now, |terms, server_time| {
            if terms.closes_at <= server_time {
                return Err(Failure::new(Code::WrongState, "the sale is over already"));
            }
            // That it is so already is what was asked for: the answer to it may have been lost.
            Ok(SaleMove { paused: Some(paused), ..SaleMove::default() })
        })
    }

    fn add_stock(
        &mut self,
        member: MemberId,
        id: u64,
        sale: SaleId,
        line: Line,
        units: u32,
        key: String,
    ) -> Result<(), Failure> {
        self.allowed(member, Role::Host)?;
        let known = self.known_sale(&sale)?;
        check_key(&key)?;
        let Some(terms) = known.terms.line(line) else {
            return Err(Failure::new(Code::BadRequest, "line: the sale has no such line"));
        };
        if units == 0 || terms.stock.saturating_add(units) > MAX_STOCK {
            return Err(Failure::new(
                Code::BadRequest,
                format!("units: expected at least 1, and at most {MAX_STOCK} with what there is"),
            ));
        }
        self.outputs.push_back(Output::AddStock { member, id, sale, line, units, key });
        Ok(())
    }

    fn restock(
        &mut self,
        member: MemberId,
        id: u64,
        order: OrderId,
        lines: &[LineUnits],
        key: String,
    ) -> Result<(), Failure> {
        self.allowed(member, Role::Host)?;
        check_key(&key)?;
        let units = if lines.is_empty() { None } else { Some(units_of(lines)?) };
        self.outputs.push_back(Output::Restock { member, id, order, units, key });
        Ok(())
    }

    fn move_sale(
        &mut self,
        member: MemberId,
        id: u64,
        sale: &SaleId,
        now: Now,
        change: impl FnOnce(&SaleTerms, UnixMillis) -> Result<SaleMove, Failure>,
    ) -> Result<(), Failure> {
        self.allowed(member, Role::Host)?;
        let server_time = self.clock.now(now);
        let known = self.known_sale(sale)?;
        let (sale, to) = (known.id.clone(), change(&known.terms, server_time)?);
        self.outputs.push_back(Output::MoveSale { member, id, sale, to });
        Ok(())
    }

    fn hold(&mut self, member: MemberId, id: u64, ask: HoldAsk, now: Now) -> Result<(), Failure> {
        let viewer = self.shopper(member, now)?;
        let (tier, buyer) = (tier_of(&viewer), viewer.id);
        self.selling(&ask.sale)?;
        check_key(&ask.key)?;
        let again = || Request::Hold {
            sale_id: ask.sale.clone(),
            quantity: None,
            lines: ask.units.iter().map(|(line, quantity)| LineUnits { line, quantity }).collect(),
            key: ask.key.clone(),
            coupon: ask.coupon.clone(),
        };
        let Some(coupon) = self.typed_coupon(member, id, ask.coupon.as_deref(), again)? else {
            return Ok(());
        };
        let HoldAsk { sale, units, key, .. } = ask;
        let known = self.known_sale(&sale)?;
        if let Some(coupon) = &coupon {
            self.check_coupon(coupon, known, &units)?;
        }
        let hold = hold_id(&self.live, &sale, &buyer, &key);
        let ticket = known.terms.draw.as_ref().map(|draw| draw.ticket(&hold));
        let (of, with) = (units.clone(), coupon.clone());
        let op = Op::Hold { hold: hold.clone(), buyer, units: of, tier, coupon: with, ticket };
        self.ask(sale, op, Then::Hold { member, id, hold, units, coupon, cancel: false });
        Ok(())
    }

    fn wait(
        &mut self,
        member: MemberId,
        id: u64,
        sale: SaleId,
        units: Units,
        key: &str,
        now: Now,
    ) -> Result<(), Failure> {
        let viewer = self.shopper(member, now)?;
        let (tier, buyer) = (tier_of(&viewer), viewer.id);
        self.selling(&sale)?;
        check_key(key)?;
        let hold = hold_id(&self.live, &sale, &buyer, key);
        let op = Op::Wait { hold: hold.clone(), buyer, units: units.clone(), tier };
        self.ask(sale, op, Then::Hold { member, id, hold, units, coupon: None, cancel: false });
        Ok(())
    }

    fn cancel(
        &mut self,
        member: MemberId,
        id: u64,
        sale: SaleId,
        hold: HoldId,
        now: Now,
    ) -> Result<(), Failure> {
        let buyer = self.shopper(member, now)?.id;
        self.selling(&sale)?;
        let op = Op::Cancel { hold: hold.clone(), buyer };
        // A released hold's quantity says nothing any more.
        self.ask(sale, op, Then::Hold { member, id, hold, units: 0.into(), coupon: None, cancel: true });
        Ok(())
    }

    fn checkout(&mut self, member: MemberId, id: u64, ask: CheckoutAsk, now: Now) -> Result<(), Failure> {
        let CheckoutAsk { sale, hold, coupon: typed, contact, charges } = ask;
        let viewer = self.shopper(member, now)?;
        self.selling(&sale)?;
        self.settings
            .contact
            .check(contact.as_deref())
            .map_err(|error| Failure::new(Code::ContactInvalid, format!("contact.{error}")))?;
        let again = || Request::Checkout {
            sale_id: sale.clone(),
            hold_id: hold.clone(),
            coupon: typed.clone(),
            referrer: None,
            contact: contact.clone(),
            charges: charges.clone(),
        };
        let Some(coupon) = self.typed_coupon(member, id, typed.as_deref(), again)? else { return Ok(()) };
        let (buyer, order) = (viewer.id.clone(), order_id(&hold));
        let contact = contact.filter(|contact| !contact.is_empty()).map(|contact| *contact);
        let payer = Box::new(Payer { viewer, details: Details { contact, charges } });
        if let Some(coupon) = coupon {
            // Whether it is for these units is known when the gate has said which the hold has.
            self.outputs.push_back(Output::LookAtHold { member, id, payer, sale, hold, coupon });
            return Ok(());
        }
        let op = Op::StartPayment { hold: hold.clone(), buyer, order, coupon: None };
        self.ask(sale, op, Then::Checkout { member, id, payer, hold });
        Ok(())
    }

    /// The asker, if they may buy, and do not ask too often.
    fn shopper(&mut self, member: MemberId, now: Now) -> Result<Viewer, Failure> {
        let viewer = self.allowed(member, Role::Viewer)?.clone();
        self.shoppers.take(viewer.id.clone(), now.instant).map_err(|retry_after| {
            Failure::new(Code::RateLimited, "too many requests: wait a moment")
                .retry_after(answers::millis(retry_after))
        })?;
        Ok(viewer)
    }

    pub(super) fn ask(&mut self, sale: SaleId, op: Op, then: Then) {
        self.outputs.push_back(Output::Ask { sale, op: Some(op), then });
    }

    /// Refuses what the gate would refuse, while a sale is being rebuilt there.
    fn selling(&self, sale: &SaleId) -> Result<(), Failure> {
        self.known_sale(sale)?;
        match self.sales.get(sale) {
            Some(on_sale) if on_sale.frozen => Err(answers::frozen()),
            _ => Ok(()),
        }
    }

    pub(super) fn known_sale(&self, sale: &SaleId) -> Result<&Sale, Failure> {
        self.sale(sale).ok_or_else(|| Failure::new(Code::NotFound, "sale_id: no such sale in this live"))
    }

    pub(super) fn reply_time(&mut self, member: MemberId, id: u64, now: Now) {
        let server_time = self.clock.now(now);
        self.reply(member, id, &Reply::Time { server_time });
    }
}

/// Units to be set aside, and with what.
struct HoldAsk {
    sale: SaleId,
    units: Units,
    key: String,
    coupon: Option<String>,
}

/// A hold to be paid, and with what.
struct CheckoutAsk {
    sale: SaleId,
    hold: HoldId,
    coupon: Option<String>,
    contact: Option<Box<Contact>>,
    charges: Vec<Charge>,
}

fn check_key(key: &str) -> Result<(), Failure> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Failure::new(Code::BadRequest, format!("key: expected 1 to {MAX_KEY_BYTES} bytes")));
    }
    Ok(())
}

fn units_of(lines: &[LineUnits]) -> Result<Units, Failure> {
    if lines.len() > MAX_HOLD_LINES {
        return Err(Failure::new(Code::BadRequest, format!("lines: expected at most {MAX_HOLD_LINES}")));
    }
    Units::new(lines.iter().map(|units| (units.line, units.quantity)))
        .map_err(|error| Failure::new(Code::BadRequest, format!("lines: {error}")))
}

/// The tier that a token names, where it is one that a sale could name too: what a shop says of its buyers may be any text.
fn tier_of(viewer: &Viewer) -> Option<TierId> {
    viewer.tier.as_deref().and_then(|tier| tier.parse().ok())
}
