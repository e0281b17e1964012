//! What the gate has answered, and what becomes of it on stage.

use haul_commerce::{Applied, GateError, Offered, Order, Outcome, Refusal, Released, Sale, order_id};
use haul_model::{Now, SaleId};
use haul_room::Key;
use haul_wire::{Code, Event, Failure, HoldState, HoldView, Reply, SaleView};

use super::{
    Stage,
    answers::{self, gate_failed, hold_view, order_view, unavailable},
    messages::{MemberId, Output, Then},
    sales::OnSale,
};

impl Stage {
    /// The gate has answered a batch: first everybody who asked, then the room.
    pub(super) fn applied(
        &mut self,
        sale: &SaleId,
        answer: Result<Applied, GateError>,
        then: Vec<Then>,
        now: Now,
    ) {
        let applied = match answer {
            Ok(applied) => applied,
            Err(error) => return self.gate_failed(sale, &error, then, now),
        };
        self.clock.observe(applied.now, now);
        for (then, outcome) in then.into_iter().zip(&applied.outcomes) {
            self.answer(sale, then, outcome, now);
        }
        for released in &applied.released {
            self.released(sale, released);
        }
        self.offered(sale, &applied.offered);
        if let Some(on_sale) = self.sales.get_mut(sale) {
            if on_sale.is_rebuilt(&applied) {
                self.outputs.push_back(Output::LookForLost { sale: sale.clone(), epoch: applied.mark.epoch });
            }
            let drawn = on_sale.is_drawn();
            on_sale.observe(&applied, now.instant);
            on_sale.sweep_not_before = None;
            if on_sale.is_drawn() && !drawn {
                let sale = on_sale.view(self.clock.now(now));
                self.tell_all(&Event::SaleChanged { sale });
            }
        }
        self.tell_stock(now);
    }

    pub(super) fn gate_failed(&mut self, sale: &SaleId, error: &GateError, then: Vec<Then>, now: Now) {
        match error {
            GateError::Unknown(_) => self.outputs.push_back(Output::LookAfterOrders),
            GateError::Stale { .. } | GateError::ClockJumped { .. } => self.freeze(sale, now),
            GateError::Unavailable(_) | GateError::Corrupt(_) => {}
        }
        for then in then {
            if let Then::Hold { member, id, .. } | Then::Checkout { member, id, .. } = then {
                self.fail(member, id, &gate_failed(error));
            }
        }
    }

    /// The gate has lost something of this sale, or its clock is wrong: the sale stops until that is mended, and everybody
    /// is told.
    pub(super) fn freeze(&mut self, sale: &SaleId, now: Now) {
        let server_time = self.clock.now(now);
        let Some(on_sale) = self.sales.get_mut(sale) else { return };
        if on_sale.frozen {
            return;
        }
        on_sale.frozen = true;
        on_sale.state_told = on_sale.state(server_time);
        let view = on_sale.view(server_time);
        // A gate that has lost one sale has probably lost the others, of which nobody asks at the moment.
        let all = self.sales.values().map(|on_sale| Output::TellGate(on_sale.sale.clone()));
        self.outputs.extend(all);
        self.tell_all(&Event::SaleChanged { sale: view });
    }

    pub(super) fn answer(&mut self, sale: &SaleId, then: Then, outcome: &Outcome, now: Now) {
        if let (Outcome::Refused(Refusal::UnknownSale), Some(on_sale)) = (outcome, self.sales.get(sale)) {
            self.outputs.push_back(Output::TellGate(on_sale.sale.clone()));
        }
        if *outcome == Outcome::Refused(Refusal::UnknownCoupon) {
            self.outputs.push_back(Output::TellCoupons);
        }
        let server_time = self.clock.now(now);
        match then {
            Then::Nothing => {}
            Then::Hold { member, id, hold, units, coupon, cancel } => {
                let answer = match outcome {
                    Outcome::Refused(refusal) => Err(answers::refused(*refusal, server_time)),
                    Outcome::Released if !cancel => Err(Failure::new(
                        Code::HoldOver,
                        "this hold is over and its units went back: take a new key to try again",
                    )),
                    Outcome::Captured { .. } | Outcome::Sold if cancel => {
                        Err(Failure::new(Code::WrongState, "it is paid already"))
                    }
                    outcome => hold_view(hold, sale.clone(), &units, coupon, outcome).ok_or_else(unavailable),
                };
                match answer {
                    Ok(hold) => {
                        if hold.state == HoldState::Released {
                            // Given up while it was being paid, perhaps: then its order ends too.
                            self.outputs.push_back(Output::ExpireOrder(order_id(&hold.id)));
                        }
                        self.reply(member, id, &Reply::Hold { hold, server_time });
                    }
                    Err(failure) => self.fail(member, id, &failure),
                }
            }
            Then::Checkout { member, id, payer, hold } => {
                let failure = match outcome {
                    Outcome::Paying { deadline } => {
                        let Some(on_sale) = self.sales.get(sale) else {
                            return self.fail(member, id, &unavailable());
                        };
                        return self.outputs.push_back(Output::Checkout {
                            member,
                            id,
                            payer,
                            sale: on_sale.sale.clone(),
                            hold,
                            deadline: *deadline,
                        });
                    }
                    Outcome::Refused(refusal) => answers::refused(*refusal, server_time),
                    Outcome::Released => {
                        Failure::new(Code::HoldOver, "this hold is over and its units went back")
                    }
                    _ => Failure::new(Code::WrongState, "it is paid already"),
                };
                self.fail(member, id, &failure);
            }
        }
    }

    pub(super) fn released(&mut self, sale: &SaleId, released: &Released) {
        let hold = HoldView {
            id: released.hold.clone(),
            sale_id: sale.clone(),
            quantity: released.units.quantity(),
            lines: answers::line_units(&released.units),
            state: HoldState::Released,
            deadline: None,
            position: None,
            coupon: None,
        };
        self.tell_buyer(&released.buyer, Key::Hold(released.hold.clone()), &Event::HoldChanged { hold });
        if let Some(order) = &released.order {
            self.outputs.push_back(Output::ExpireOrder(order.clone()));
        }
    }

    pub(super) fn offered(&mut self, sale: &SaleId, offered: &[Offered]) {
        for Offered { hold, buyer, units, deadline } in offered {
            let held = Outcome::Held { deadline: *deadline };
            if let Some(hold) = hold_view(hold.clone(), sale.clone(), units, None, &held) {
                self.tell_buyer(buyer, Key::Hold(hold.id.clone()), &Event::HoldChanged { hold });
            }
        }
    }

    pub(super) fn sale_put(
        &mut self,
        member: MemberId,
        id: u64,
        answer: Result<(Sale, Applied), Failure>,
        now: Now,
    ) {
        let (sale, applied) = match answer {
            Ok(put) => put,
            Err(failure) => return self.fail(member, id, &failure),
        };
        let sale = self.put_on_stage(sale, &applied, now);
        self.reply(member, id, &Reply::Sale { sale });
    }

    pub(super) fn restocked(&mut self, member: MemberId, id: u64, answer: Result<Order, Failure>) {
        match answer {
            Ok(order) => self.reply(member, id, &Reply::Order { order: order_view(&order) }),
            Err(failure) => self.fail(member, id, &failure),
        }
    }

    pub(super) fn put_on_stage(&mut self, sale: Sale, applied: &Applied, now: Now) -> SaleView {
        self.clock.observe(applied.now, now);
        let server_time = self.clock.now(now);
        if self.sales.get(&sale.id).is_some_and(|on_sale| on_sale.is_rebuilt(applied)) {
            let (sale, epoch) = (sale.id.clone(), applied.mark.epoch);
            self.outputs.push_back(Output::LookForLost { sale, epoch });
        }
        let on_sale = self
            .sales
            .entry(sale.id.clone())
            .and_modify(|on_sale| on_sale.sale = sale.clone())
            .or_insert_with(|| OnSale::new(sale, applied));
        on_sale.frozen = false;
        on_sale.observe(applied, now.instant);
        on_sale.state_told = on_sale.state(server_time);
        let view = on_sale.view(server_time);
        self.tell_all(&Event::SaleChanged { sale: view.clone() });
        view
    }
}
