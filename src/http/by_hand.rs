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
    pub async fn look_to_change(&self, caller: &Caller, deed: &Deed) -> Result<Looked, Problem> {
        let looked = caller.may_write(&deed.collection).and_then(|()| self.look(caller, deed.collection.as_str()));
        if let Err(problem) = &looked
            && problem.status() == StatusCode::FORBIDDEN
            // Before there is one, nothing can be done anyway.
            && let Some(desk) = self.desk.get()
            && let Some(left_out) = self.refusals.next(caller.name(), Instant::now())
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

    /// Has `work` done, written down before and after. It is done to its end, also where whoever asked goes away.
    pub async fn by_hand<W>(&self, caller: &Caller, deed: Deed, work: W) -> Result<Outcome, Problem>
    where
        W: Future<Output = Result<Outcome, Problem>> + Send + 'static,
    {
        let (audit, hand) = (self.desk()?.audit.clone(), Hand::over_http(caller.name()));
        let this = self.clone();
        let all = async move {
            let begun = this.begin(audit, hand, deed).await?;
            let outcome = work.await;
            let told = match &outcome {
                Ok(Outcome::Erased(erased)) => audit::Outcome::Done { erased: Some(*erased) },
                Ok(_) => audit::Outcome::Done { erased: None },
                Err(problem) if problem.leaves_open() => audit::Outcome::Unknown { why: problem.detail().to_string() },
                Err(problem) => audit::Outcome::Refused { why: problem.detail().to_string() },
            };
            // It is done: the log has what could not be written down.
            let _ = this.write_down(move || begun.end(&told)).await;
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
        self.look_to_change(caller, &deed).await?;
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
