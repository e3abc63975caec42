// The x87 opcodes D8 to DF (AMD64 APM vol. 3, table A-15), with their undocumented aliases, which all processors have.
//
// ST(i) is counted before the instruction pushes or pops. FNSTENV and FNSAVE are sensitive because they store the
// host's addresses of the last x87 instruction and of its operand.

enum X87Map {
  /// Opcodes D8 to DF.
  static let text: StaticString = """
    D8/0 - ok fadd +st0,Md x87
    D8/0 - ok fadd +st0,T x87
    D8/1 - ok fmul +st0,Md x87
    D8/1 - ok fmul +st0,T x87
    D8/2 - ok fcom st0,Md x87
    D8/2 - ok fcom st0,T x87
    D8/3 - ok fcomp st0,Md x87
    D8/3 - ok fcomp st0,T x87
    D8/4 - ok fsub +st0,Md x87
    D8/4 - ok fsub +st0,T x87
    D8/5 - ok fsubr +st0,Md x87
    D8/5 - ok fsubr +st0,T x87
    D8/6 - ok fdiv +st0,Md x87
    D8/6 - ok fdiv +st0,T x87
    D8/7 - ok fdivr +st0,Md x87
    D8/7 - ok fdivr +st0,T x87
    # D9
    D9/0 - ok fld =st0,Md x87
    D9/0 - ok fld =st0,T x87
    D9/1 - ok fxch +st0,+T x87
    D9/2 - ok fst =Md,st0 x87
    D9/2.0 - ok fnop - x87
    D9/3 - ok fstp =Md,st0 x87
    D9/3 - ok fstpnce =T,st0 x87
    D9/4 - sens fldenv Menv x87
    D9/5 - ok fldcw Mw x87
    D9/6 - sens fnstenv =Menv x87
    D9/7 - ok fnstcw =Mw x87
    D9/4.0 - ok fchs - |+st0 x87
    D9/4.1 - ok fabs - |+st0 x87
    D9/4.4 - ok ftst - |st0 x87
    D9/4.5 - ok fxam - |st0 x87
    D9/5.0 - ok fld1 - |=st0 x87
    D9/5.1 - ok fldl2t - |=st0 x87
    D9/5.2 - ok fldl2e - |=st0 x87
    D9/5.3 - ok fldpi - |=st0 x87
    D9/5.4 - ok fldlg2 - |=st0 x87
    D9/5.5 - ok fldln2 - |=st0 x87
    D9/5.6 - ok fldz - |=st0 x87
    D9/6.0 - ok f2xm1 - |+st0 x87
    D9/6.1 - ok fyl2x - |st0,+st1 x87
    D9/6.2 - ok fptan - |+st0,=st1 x87
    D9/6.3 - ok fpatan - |st0,+st1 x87
    D9/6.4 - ok fxtract - |+st0,=st1 x87
    D9/6.5 - ok fprem1 - |+st0,st1 x87
    D9/6.6 - ok fdecstp -  x87
    D9/6.7 - ok fincstp -  x87
    D9/7.0 - ok fprem - |+st0,st1 x87
    D9/7.1 - ok fyl2xp1 - |st0,+st1 x87
    D9/7.2 - ok fsqrt - |+st0 x87
    D9/7.3 - ok fsincos - |+st0,=st1 x87
    D9/7.4 - ok frndint - |+st0 x87
    D9/7.5 - ok fscale - |+st0,st1 x87
    D9/7.6 - ok fsin - |+st0 x87
    D9/7.7 - ok fcos - |+st0 x87
    # DA
    DA/0 - ok fiadd +st0,Md x87
    DA/1 - ok fimul +st0,Md x87
    DA/2 - ok ficom st0,Md x87
    DA/3 - ok ficomp st0,Md x87
    DA/4 - ok fisub +st0,Md x87
    DA/5 - ok fisubr +st0,Md x87
    DA/6 - ok fidiv +st0,Md x87
    DA/7 - ok fidivr +st0,Md x87
    DA/0 - ok fcmovb ?st0,T x87 t:c
    DA/1 - ok fcmove ?st0,T x87 t:z
    DA/2 - ok fcmovbe ?st0,T x87 t:zc
    DA/3 - ok fcmovu ?st0,T x87 t:p
    DA/5.1 - ok fucompp - |st0,st1 x87
    # DB
    DB/0 - ok fcmovnb ?st0,T x87 t:c
    DB/1 - ok fcmovne ?st0,T x87 t:z
    DB/2 - ok fcmovnbe ?st0,T x87 t:zc
    DB/3 - ok fcmovnu ?st0,T x87 t:p
    DB/0 - ok fild =st0,Md x87
    DB/1 - ok fisttp =Md,st0 x87
    DB/2 - ok fist =Md,st0 x87
    DB/3 - ok fistp =Md,st0 x87
    DB/5 - ok fld =st0,Mt x87
    DB/7 - ok fstp =Mt,st0 x87
    DB/4.0 - ok feni8087_nop - x87
    DB/4.1 - ok fdisi8087_nop - x87
    DB/4.2 - ok fnclex - x87
    DB/4.3 - ok fninit - x87
    DB/4.4 - ok fsetpm287_nop - x87
    DB/5 - ok fucomi st0,T x87 w:zpc 0:osa
    DB/6 - ok fcomi st0,T x87 w:zpc 0:osa
    # DC
    DC/0 - ok fadd +st0,Mq x87
    DC/1 - ok fmul +st0,Mq x87
    DC/2 - ok fcom st0,Mq x87
    DC/3 - ok fcomp st0,Mq x87
    DC/4 - ok fsub +st0,Mq x87
    DC/5 - ok fsubr +st0,Mq x87
    DC/6 - ok fdiv +st0,Mq x87
    DC/7 - ok fdivr +st0,Mq x87
    DC/0 - ok fadd +T,st0 x87
    DC/1 - ok fmul +T,st0 x87
    DC/2 - ok fcom st0,T x87
    DC/3 - ok fcomp st0,T x87
    DC/4 - ok fsubr +T,st0 x87
    DC/5 - ok fsub +T,st0 x87
    DC/6 - ok fdivr +T,st0 x87
    DC/7 - ok fdiv +T,st0 x87
    # DD
    DD/0 - ok fld =st0,Mq x87
    DD/1 - ok fisttp =Mq,st0 x87
    DD/2 - ok fst =Mq,st0 x87
    DD/3 - ok fstp =Mq,st0 x87
    DD/4 - sens frstor Mstate x87
    DD/6 - sens fnsave =Mstate x87
    DD/7 - ok fnstsw =Mw x87
    DD/0 - ok ffree T x87
    DD/1 - ok fxch +st0,+T x87
    DD/2 - ok fst =T,st0 x87
    DD/3 - ok fstp =T,st0 x87
    DD/4 - ok fucom st0,T x87
    DD/5 - ok fucomp st0,T x87
    # DE
    DE/0 - ok fiadd +st0,Mw x87
    DE/1 - ok fimul +st0,Mw x87
    DE/2 - ok ficom st0,Mw x87
    DE/3 - ok ficomp st0,Mw x87
    DE/4 - ok fisub +st0,Mw x87
    DE/5 - ok fisubr +st0,Mw x87
    DE/6 - ok fidiv +st0,Mw x87
    DE/7 - ok fidivr +st0,Mw x87
    DE/0 - ok faddp +T,st0 x87
    DE/1 - ok fmulp +T,st0 x87
    DE/2 - ok fcomp st0,T x87
    DE/4 - ok fsubrp +T,st0 x87
    DE/5 - ok fsubp +T,st0 x87
    DE/6 - ok fdivrp +T,st0 x87
    DE/7 - ok fdivp +T,st0 x87
    DE/3.1 - ok fcompp - |st0,st1 x87
    # DF
    DF/0 - ok fild =st0,Mw x87
    DF/1 - ok fisttp =Mw,st0 x87
    DF/2 - ok fist =Mw,st0 x87
    DF/3 - ok fistp =Mw,st0 x87
    DF/4 - ok fbld =st0,Mt x87
    DF/5 - ok fild =st0,Mq x87
    DF/6 - ok fbstp =Mt,st0 x87
    DF/7 - ok fistp =Mq,st0 x87
    DF/0 - ok ffreep T x87
    DF/1 - ok fxch +st0,+T x87
    DF/2 - ok fstp =T,st0 x87
    DF/3 - ok fstp =T,st0 x87
    DF/4.0 - ok fnstsw =ax x87
    DF/5 - ok fucomip st0,T x87 w:zpc 0:osa
    DF/6 - ok fcomip st0,T x87 w:zpc 0:osa
    """
}
