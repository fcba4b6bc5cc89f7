"""`python -m facetd_train`: the command line, and what an interruption ends in, also while its imports take seconds."""

INTERRUPTED = 130  # as a shell says it


def main() -> None:
    try:
        from facetd_train.command_line import main

        main()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
