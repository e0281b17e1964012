//! The databases themselves: files, servers, their settings, and what becomes of them when they are restarted.

use super::*;

on_each_database! {
    many_at_once_wait_for_one_another
}

#[tokio::test]
async fn a_file_is_made_with_its_directories_and_found_again() {
    let dir = TempDir::new();
    let url = format!("sqlite://{}/a/b/haul.db", dir.path().display());
    let ledger = SqlLedger::open(&url).await.unwrap();
    ledger.ping().await.unwrap();
    ledger.ensure_live(&live("demo")).await.unwrap();
    ledger.put_product(&product("lamp")).await.unwrap();
    ledger.put_sale(&sale("sale_1", 5)).await.unwrap();
    ledger.start_order(&order(1, "ann", 1), &Details::default()).await.unwrap();
    ledger.move_order(&order(1, "ann", 1).id, OrderState::Sold, NOW).await.unwrap();
    // Not closed: a process that is killed doesn't either.
    let again = SqlLedger::open(&url).await.unwrap();
    assert_eq!(again.sales(&demo(), NOW).await.unwrap(), [sale("sale_1", 5)]);
    assert_eq!(again.totals(&demo()).await.unwrap().orders, 1);
    assert_eq!(again.bag(&demo()).await.unwrap(), []);
}

async fn many_at_once_wait_for_one_another(on: On) {
    let ledger = ledger(&on).await;
    let buyers = (0..20).map(|number| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let new = order(number, "ann", 1);
            ledger.start_order(&new, &Details::default()).await.unwrap();
            ledger.orders(&demo(), &[], 50).await.unwrap();
            ledger.move_order(&new.id, OrderState::Sold, NOW).await.is_ok()
        })
    });
    let sold = futures_util::future::join_all(buyers.collect::<Vec<_>>()).await;
    assert_eq!(sold.into_iter().filter(|sold| *sold.as_ref().unwrap()).count(), 5);
    assert_eq!(ledger.totals(&demo()).await.unwrap().units, 5);
}

#[tokio::test]
async fn other_databases_are_refused_with_what_to_do() {
    for (url, says) in [
        ("postgres://shop:secret@db:port/haul", "port"),
        ("mysql://shop:secret@db/haul", "sqlite://path"),
        ("data/haul.db", "sqlite://path"),
        ("sqlite://data/haul.db?speed=high", "speed"),
    ] {
        let error = SqlLedger::open(url).await.unwrap_err();
        assert!(matches!(error, OpenError::Address { .. }), "{url}: {error:?}");
        assert!(error.to_string().contains(says) && !error.to_string().contains("secret"), "{error}");
    }
    let dir = TempDir::new();
    let file = dir.path().join("text.db");
    std::fs::write(&file, "this is not a database, and long enough to have a header of its own".repeat(20))
        .unwrap();
    let error = SqlLedger::open(&format!("sqlite://{}", file.display())).await.unwrap_err();
    assert!(matches!(error, OpenError::Ledger { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_make_the_tables_once() {
    let dir = TempDir::new();
    let file = format!("sqlite://{}/haul.db", dir.path().display());
    for url in [file, TestPostgres::any().database().await] {
        for opened in futures_util::future::join_all((0..4).map(|_| SqlLedger::open(&url))).await {
            opened.unwrap();
        }
    }
}

#[tokio::test]
async fn a_postgres_that_could_lose_what_it_acknowledged_is_named() {
    let url = TestPostgres::any().database().await;
    assert_eq!(SqlLedger::open(&url).await.unwrap().weaknesses(), [""; 0]);
    let weak = format!("{url}?options=-csynchronous_commit%3Doff");
    let told = SqlLedger::open(&weak).await.unwrap();
    assert!(matches!(told.weaknesses(), [one] if one.starts_with("synchronous_commit")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_restarts_in_the_middle_loses_nothing_it_acknowledged() {
    let mut server = TestPostgres::own();
    let ledger = SqlLedger::open(&server.database().await).await.unwrap();
    ledger.ensure_live(&live("demo")).await.unwrap();
    ledger.put_product(&product("lamp")).await.unwrap();
    ledger.put_sale(&sale("sale_1", 150)).await.unwrap();
    let orders: Vec<_> = (0..200).map(|number| order(number, "ann", 1)).collect();
    for one in &orders {
        ledger.start_order(one, &Details::default()).await.unwrap();
    }
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let buyers: Vec<_> = orders
        .iter()
        .map(|one| {
            let (ledger, id, told) = (ledger.clone(), one.id.clone(), told.clone());
            // As the worker that settles payments does: again, until there is an answer.
            tokio::spawn(async move {
                let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
                loop {
                    match ledger.move_order(&id, OrderState::Sold, NOW).await {
                        Err(LedgerError::Unavailable(_)) => {
                            assert!(std::time::Instant::now() < until, "it does not come back");
                            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                        }
                        answer => {
                            let _ = told.send(());
                            return (id, answer.map(|order| order.state));
                        }
                    }
                }
            })
        })
        .collect();
    // When the first has its answer, others are under way.
    heard.recv().await.unwrap();
    server.kill();
    server.start_again();
    let mut sold = 0;
    for buyer in buyers {
        let (id, answer) = buyer.await.unwrap();
        let state = ledger.order(&id).await.unwrap().unwrap().state;
        match answer {
            Ok(OrderState::Sold) => {
                assert_eq!(state, OrderState::Sold);
                sold += 1;
            }
            // Only for want of stock.
            Err(LedgerError::Conflict(_)) => assert_eq!(state, OrderState::Paying),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((sold, ledger.totals(&demo()).await.unwrap().units), (150, 150));
}

#[tokio::test]
async fn postgres_is_spoken_to_with_tls_and_its_certificate_is_checked() {
    let dir = TempDir::new();
    let sign = |name: &str| {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca =
            rcgen::CertifiedIssuer::self_signed(parameters, rcgen::KeyPair::generate().unwrap()).unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, ca.pem()).unwrap();
        (ca, file.to_string_lossy().into_owned())
    };
    let ((ca, trusted), (_, stranger)) = (sign("ca.pem"), sign("stranger.pem"));
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &ca).unwrap();
    let server = TestPostgres::with_tls(&certificate.pem(), &key.serialize_pem());
    let url = server.database().await;
    let by_name = url.replace("127.0.0.1", "localhost");
    let with = async |url: &str, root: &str| {
        SqlLedger::open(&format!("{url}?sslmode=verify-full&sslrootcert={root}")).await
    };
    let ledger = with(&by_name, &trusted).await.unwrap();
    ledger.ensure_live(&live("demo")).await.unwrap();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let one = format!("{by_name}?sslmode=verify-full&sslrootcert={trusted}");
    let pool = sqlx::PgPool::connect(&one).await.unwrap();
    assert!(sqlx::query_scalar::<_, bool>(encrypted).fetch_one(&pool).await.unwrap());
    // Signed by somebody else, or for another name.
    for refused in [with(&by_name, &stranger).await, with(&url, &trusted).await] {
        assert!(matches!(refused, Err(OpenError::Ledger { .. })), "{refused:?}");
    }
}
