"""`python -m lvlm_va`: the same as `lvlm-va`. The package's first lines keep the working folder out."""

from lvlm_va.cli.main import main

if __name__ == "__main__":
    main()
