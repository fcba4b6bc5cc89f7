//! What callers change, written down in the audit log before it is done and after ([`crate::audit`]).

use std::time::Instant;

use axum::http::StatusCode;

use super::Shown;
use super::access::Caller;
use super::problem::Problem;
use super::reading::Looked;
use crate::audit::{self, Audit, AuditError, Begun, Deed, Hand};
use crate::engine::changes::{Outcome, Request};
use crate::face::CollectionName;

impl Shown {
    /// The collection, where the caller may change it. That they may not is written down, within bounds.
    pub async fn look_to_change(
        &self,
        caller: &Caller,
        collection: &CollectionName,
        deed: &Deed,
    ) -> Result<Looked, Problem> {
        let looked = caller.may_write(collection).and_then(|()| self.look(caller, collection.as_str()));
        if let Err(problem) = &looked
            && problem.status() == StatusCode::FORBIDDEN
            // Before there is one, nothing can be done anyway.
            && let Some(desk) = self.desk.get()
            && let Some(left_out) = self.refusals.next(caller.name().to_string(), Instant::now())
        {
            let (audit, hand, deed) = (desk.audit.clone(), Hand::over_http(caller.name()), deed.clone());
            let why = match left_out {
                0 => problem.detail().to_string(),
                _ => format!("{}, and {left_out} more before that are not written down", problem.detail()),
            };
            // They are refused whether or not it can be written down.
            let _ = self.write_down(move || audit.refuse(hand, deed, why)).await;
        }
        looked
    }

    /// Has `work` done, written down before and after. It is done to its end, also where whoever asked goes away or
    /// the daemon stops.
    pub async fn by_hand<W>(&self, caller: &Caller, deed: Deed, work: W) -> Result<Outcome, Problem>
    where
        W: Future<Output = Result<Outcome, Problem>> + Send + 'static,
    {
        let (audit, hand) = (self.desk()?.audit.clone(), Hand::over_http(caller.name()));
        let (this, counted) = (self.clone(), self.under_way.one());
        let all = async move {
            let _counted = counted;
            let begun = this.begin(audit, hand, deed).await?;
            let outcome = work.await;
            let told = match &outcome {
                Ok(Outcome::Erased(erased)) => audit::Outcome::erased(Some(*erased)),
                Ok(_) => audit::Outcome::DONE,
                Err(problem) if problem.leaves_open() => audit::Outcome::Unknown { why: problem.detail().to_string() },
                Err(problem) => audit::Outcome::Refused { why: problem.detail().to_string() },
            };
            // It is done, whether or not that is written down, and where it is not the log has it.
            if !matches!(tokio::task::spawn_blocking(move || begun.end(&told)).await, Ok(Ok(()))) {
                this.metrics.audit_failures.inc();
            }
            outcome
        };
        tokio::spawn(all).await.unwrap_or_else(|_| Err(Problem::internal()))
    }

    /// One request of an operator as a deed of its own.
    pub async fn request_by_hand(
        &self,
        caller: &Caller,
        collection: &CollectionName,
        request: Request,
    ) -> Result<Outcome, Problem> {
        let deed = Deed::of(collection, std::slice::from_ref(&request));
        self.look_to_change(caller, collection, &deed).await?;
        let (this, collection) = (self.clone(), collection.clone());
        self.by_hand(caller, deed, async move { this.operate(&collection, request).await }).await
    }

    async fn begin(&self, audit: Audit, hand: Hand, deed: Deed) -> Result<Begun, Problem> {
        self.write_down(move || audit.begin(hand, deed)).await
    }

    /// Writing waits for the disk.
    async fn write_down<T: Send + 'static>(
        &self,
        write: impl FnOnce() -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, Problem> {
        let written = tokio::task::spawn_blocking(write).await.map_err(|_| Problem::internal())?;
        written.map_err(|error| {
            self.metrics.audit_failures.inc();
            tracing::error!(%error, "the audit log cannot be written");
            Problem::not_audited()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prometheus::IntGauge;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;
    use crate::http::Desk;
    use crate::metrics::Metrics;
    use crate::{asks, source};

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_deed_whose_asker_went_away_is_waited_for_and_its_outcome_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(audit::FILE);
        let lobby = CollectionName::new("lobby").unwrap();
        let shown = Shown::new(Arc::new(Metrics::new()), Arc::default(), Default::default(), None, 1);
        let (_queue, queued) = source::queue(1, IntGauge::new("queued", "queued").unwrap());
        let (asks, _asked) = asks::wire(queued.knocker());
        let desk = Desk { asks, dimension: 1, default_collection: lobby.clone(), audit: Audit::open(&path).unwrap() };
        assert!(shown.desk.set(desk).is_ok());

        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tells, waits) = (begun.clone(), go_on.clone());
        let work = async move {
            tells.notify_one();
            waits.notified().await;
            Ok(Outcome::Done)
        };
        let this = shown.clone();
        let deed = Deed::of(&lobby, &[Request::EraseCollection]);
        let asker = tokio::spawn(async move { this.by_hand(&Caller::anyone(), deed, work).await });
        timeout(LONG, begun.notified()).await.unwrap();
        asker.abort();
        assert!(asker.await.unwrap_err().is_cancelled());

        assert!(timeout(Duration::ZERO, shown.under_way.none_left()).await.is_err(), "nobody waits for it");
        go_on.notify_one();
        timeout(LONG, shown.under_way.none_left()).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let outcomes = ["asked", "done"].map(|outcome| text.matches(&format!("\"outcome\":\"{outcome}\"")).count());
        assert_eq!(outcomes, [1, 1], "{text}");
    }
}
