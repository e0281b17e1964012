//! What a live's owner does: it carries out what the stage says.

use haul_commerce::GateError;

use crate::{
    Services,
    chores::Chore,
    coupons,
    finder::Finder,
    house::Word,
    live::{Live, Look},
    now, purchase, restock,
    stage::{Input, Output, Stage},
    till::Till,
};

/// The stage, and what it needs to have its way.
pub(crate) struct Desk {
    pub(crate) stage: Stage,
    live: Live,
    services: Services,
    till: Till,
    finder: Finder,
}

impl Desk {
    pub(crate) fn new(stage: Stage, live: Live, services: Services, till: Till) -> Self {
        let finder = Finder::new(services.clone(), live.clone());
        Self { stage, live, services, till, finder }
    }

    /// The live as it stands.
    pub(crate) fn look(&self) -> Look {
        Look {
            title: self.stage.title().to_owned(),
            viewers: self.stage.viewers(),
            state: self.stage.state(),
            sales: self.stage.sale_views(now()),
        }
    }

    /// Carries out what the stage says; what it tells its members goes to `told`.
    pub(crate) fn carry_out(&mut self, told: &mut Vec<Word>) {
        while let Some(output) = self.stage.poll_output() {
            match output {
                Output::Deliver(delivery) => told.push(Word::Tell(delivery)),
                Output::DeliverTranslated { line, versions } => {
                    told.push(Word::Translated { line, versions });
                }
                Output::Welcome(member) => told.push(Word::Welcome(member)),
                Output::Ask { sale, op, then } => {
                    if let Err((sale, then)) = self.till.put(sale, op, then) {
                        let answer = Err(GateError::Unavailable("too many questions are waiting".to_owned()));
                        self.stage.handle(Input::Applied { sale, answer, then: vec![then] }, now());
                    }
                }
                Output::Find { member, buyer } => {
                    let sales = self.stage.sale_ids().into();
                    self.finder.find(member, buyer, sales);
                }
                Output::PutSale { member, id, sale, made } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let _turn = live.turn_for_sales().await;
                        let answer = match made {
                            true => purchase::make_sale(&services, &live, sale).await,
                            false => purchase::put_sale(&services, &live, sale).await,
                        };
                        live.input(Input::SalePut { member, id, answer });
                    });
                }
                Output::MoveSale { member, id, sale, to } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let _turn = live.turn_for_sales().await;
                        let answer = purchase::move_sale(&services, &live, &sale, &to).await;
                        live.input(Input::SalePut { member, id, answer });
                    });
                }
                Output::AddStock { member, id, sale, line, units, key } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    let at = self.stage.server_time(now());
                    tokio::spawn(async move {
                        let _turn = live.turn_for_sales().await;
                        let answer = restock::add_stock(&services, &live, &sale, &key, line, units, at).await;
                        live.input(Input::SalePut { member, id, answer });
                    });
                }
                Output::Restock { member, id, order, units, key } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let restocked =
                            restock::restock(&services, &live, &order, &key, units.as_ref()).await;
                        let answer = restocked.map_err(|error| error.failure());
                        live.input(Input::Restocked { member, id, answer });
                    });
                }
                Output::Checkout { member, id, payer, sale, hold, deadline } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    let server_time = self.stage.server_time(now());
                    tokio::spawn(async move {
                        let id_of_sale = sale.id.clone();
                        let purchase =
                            purchase::Purchase { payer: *payer, sale, hold, deadline, server_time };
                        let answer = purchase::check_out(&services, &live, purchase).await;
                        live.input(Input::CheckedOut { member, id, sale: id_of_sale, answer });
                    });
                }
                Output::PutCoupon { member, id, coupon, show } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let answer = coupons::put(&services, &live, &coupon).await;
                        live.input(Input::CouponPut { member, id, show, answer });
                    });
                }
                Output::ChangeCoupon { member, id, code, terms } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let answer = coupons::change(&services, &live, &code, &terms).await;
                        live.input(Input::CouponPut { member, id, show: false, answer });
                    });
                }
                Output::FindCoupon { member, id, code, request } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let coupon = coupons::find(&services, &live, &code).await;
                        live.input(Input::CouponFound { member, id, request, coupon });
                    });
                }
                Output::LookAtHold { member, id, payer, sale, hold, coupon } => {
                    let live = self.live.clone();
                    tokio::spawn(async move {
                        let units = purchase::units_of_hold(&live, &sale, &payer.viewer.id, &hold).await;
                        live.input(Input::HoldSeen { member, id, payer, sale, hold, coupon, units });
                    });
                }
                Output::TellCoupons => self.live.chore(Chore::Coupons),
                Output::TellGate(sale) => self.live.chore(Chore::Sale(Box::new(sale))),
                Output::LookForLost { sale, epoch } => self.live.chore(Chore::Lost(sale, epoch)),
                Output::End(member, code) => told.push(Word::End(member, code)),
                Output::Quiet(member, lasts) => {
                    told.push(Word::Quiet(member, lasts.as_millis() as u64));
                }
                Output::Keep(note) => self.live.keep(note),
                Output::Write { number, note } => self.live.write(number, note),
                Output::Entering(word) => told.push(Word::Entering(word)),
                Output::Late(answers) => self.live.metrics().room_unanswered(answers),
                Output::OrderNews(state) => self.live.metrics().order_moved(state),
                Output::LookAfterOrders => self.live.chore(Chore::Orders),
                Output::ExpireOrder(order) => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    let server_time = self.stage.server_time(now());
                    tokio::spawn(async move {
                        if let Err(error) =
                            purchase::expire_order(&services, &live, &order, server_time).await
                        {
                            tracing::warn!(live = %live.id(), %order, %error, "an order that is over stays open for now");
                            live.chore(Chore::Orders);
                        }
                    });
                }
            }
        }
    }
}
