/* route.h - which handler answers what: one table.
 * Contract: route_dispatch answers unknown paths with 404, known paths with another method with
 *           405 and Allow, unknown methods with 501; HEAD is answered wherever GET is. */
#ifndef WEIR_ROUTE_H
#define WEIR_ROUTE_H

#include "api/exchange.h"

typedef void route_handler(struct exchange *x);

void route_dispatch(struct exchange *x);

/* Called when the head of a request is complete and its body is still to come: 0, or the status
 * that refuses it now (404, 405, 415, 501), so that no body is read in vain. */
int route_check_head(const struct http_request *r);

/* Whether the answer may be large, so that it has to wait for room. */
bool route_answers_much(const struct http_request *r);

/* The handlers, by file. */
route_handler ingest_post;                                           /* ingest.c */
route_handler query_list, query_show;                                /* query.c */
route_handler admin_livez, admin_readyz, admin_version, admin_stats; /* admin.c */
route_handler admin_openapi;

#endif
