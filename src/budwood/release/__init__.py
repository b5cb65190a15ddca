"""The deploy unit and who may move it: releases, gate, golden probes, promotion, rollback, lineage, status.

    verdict = judge(read_report(store, candidate), read_report(store, baseline), None, recipe.gate, primary="exact")
    probes = choose_probes(measured, count=4)
    digest, version = make_release(recipe, store, Parts(...), who="anna", reason="weekly")
    promote(store, "support@2", "production", expect=None, who="anna", reason="weekly", override=None)
    rollback(store, "support", "production", to=None, who="anna", reason="refund answers too long")

Modules: `make` · `gate` (with `verdict`, `report`, `checks`) · `probes` (choice) and `measure` (what needs the engine) ·
`promote` · `canary` (with `policy`) · `lineage` · `status` · `show`, `diff` · `bundle`, `tar_file`, `archive`, `oci`,
`importing`: releases that travel. None of them imports torch when it is imported. Errors: `ReleaseError`; what the store
refuses is a `StoreError`.
"""
